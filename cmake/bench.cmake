# One program per bench/*_bench.cc.
file(GLOB bench_sources CONFIGURE_DEPENDS bench/*_bench.cc)
foreach(source ${bench_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE src bench)
  target_link_libraries(${name} PRIVATE ${below})
endforeach()
