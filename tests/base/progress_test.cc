#include "base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <sstream>
#include <thread>

#include "base/thread.h"

namespace hylas {
namespace {

constexpr uint64_t kMiB = 1 << 20;

TEST(HumanBytes, PicksTheUnit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(2.5 * 1024 * 1024 * 1024), "2.5 GiB");
}

TEST(ProgressLine, ShowsShareRateAndTimeLeft) {
  EXPECT_EQ(progress_line("Loading", 100 * kMiB, 400 * kMiB, 2'000'000, 8),
            "Loading  25% [==>     ] 100.0 MiB / 400.0 MiB  50.0 MiB/s  ETA 6 s");
  EXPECT_EQ(progress_line("Loading", 100 * kMiB, 400 * kMiB, 2'000'000, 0),
            "Loading  25% 100.0 MiB / 400.0 MiB  50.0 MiB/s  ETA 6 s");
}

TEST(ProgressLine, HasNoRateBeforeTheStartAndNoTimeLeftAtTheEnd) {
  EXPECT_EQ(progress_line("Loading", 0, kMiB, 500'000, 4), "Loading   0% [>   ] 0 B / 1.0 MiB");
  EXPECT_EQ(progress_line("Loading", kMiB, kMiB, 1'000'000, 4), "Loading 100% [====] 1.0 MiB / 1.0 MiB  1.0 MiB/s");
  EXPECT_EQ(progress_line("Loading", 0, 0, 0, 0), "Loading 100% 0 B / 0 B");
}

TEST(Progress, QuickWorkShowsNothing) {
  char* text = nullptr;
  size_t size = 0;
  FILE* out = open_memstream(&text, &size);
  {
    Progress progress("Loading", kMiB, out);
    progress.add(kMiB);
  }
  fclose(out);
  EXPECT_EQ(std::string(text, size), "");
  free(text);
}

// All that a Progress of two threads writes to `out` while 60 % of 100 MiB get done over half a second.
void load_slowly(FILE* out) {
  Progress progress("Loading", 100 * kMiB, out);
  auto work = [&] {
    for (int i = 0; i < 30; ++i) {
      progress.add(kMiB);
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
  };
  auto first = start_thread("first", work), second = start_thread("second", work);
}

TEST(Progress, AFileGetsOneLineNowAndThenAndOneAtTheEnd) {
  char* text = nullptr;
  size_t size = 0;
  FILE* out = open_memstream(&text, &size);
  load_slowly(out);
  fclose(out);
  std::istringstream lines(std::string(text, size));
  free(text);
  std::string now, last, more;
  ASSERT_TRUE(std::getline(lines, now));
  ASSERT_TRUE(std::getline(lines, last));
  EXPECT_FALSE(std::getline(lines, more)) << more;
  EXPECT_EQ(now.find('\r'), std::string::npos);
  EXPECT_EQ(last.rfind("Loading  60% 60.0 MiB / 100.0 MiB  ", 0), 0u) << last;
}

TEST(Progress, ATerminalGetsABarThatOverwritesItself) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(grantpt(master), 0);
  ASSERT_EQ(unlockpt(master), 0);
  FILE* out = fopen(ptsname(master), "w");
  ASSERT_NE(out, nullptr);
  load_slowly(out);
  char shown[8192] = {};
  ASSERT_GT(read(master, shown, sizeof shown - 1), 0);
  EXPECT_EQ(std::string(shown).rfind("\rLoading ", 0), 0u) << shown;
  EXPECT_NE(std::string(shown).find("% [======"), std::string::npos) << shown;
  fclose(out);
  close(master);
}

}  // namespace
}  // namespace hylas
