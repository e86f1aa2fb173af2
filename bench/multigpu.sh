#!/usr/bin/env bash
# Layouts of the GPUs of this machine against each other; no server, weights or network needed:
#   bench/multigpu.sh [FOLDER] [LAYERS]     FOLDER: where gpu_layout_bench, gpu_peer_bench and hylas stand (default
#                                           build/cuda; -DHYLAS_BENCH=ON); LAYERS of the 397B model (default: as many of its
#                                           60 as should fit in the memory of the GPUs)
# One table: the seed's load (3500 tokens in, 1 out, concurrency 256) for the layouts that these GPUs allow, beside what
# the simulator predicts for the same load; then decode, and prompts on half of the GPUs for decode on the others (which
# the simulator knows nothing of). Sums over peer memory beside NCCL's, and the exchange with experts, come first.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/cuda}
export LD_LIBRARY_PATH=$PWD/.gpu/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
gpus=$(nvidia-smi -L | wc -l)
kind=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | grep -oE 'H20\b|H100|H200' || echo H200)
memory_mib=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | head -n 1)
fitting() { # GPUS: layers of 6.6 GB of weights each, and room for the rest
  local fit=$((($1 * memory_mib / 1024 - 30) / 9 / 4 * 4))
  echo $((fit < 60 ? fit : 60))
}
layers=${2:-$(fitting "$gpus")}
[ "$layers" -lt 60 ] || layers=60
prompts=${PROMPTS:-$((gpus * 128))}
seconds=${SECONDS_EACH:-120}  # --foreground below: who ends this script ends what it runs
logs=${LOGS:-$(mktemp -d)}  # what every run says besides, and the lines of JSON
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
nvidia-smi topo -m | head -n $((gpus + 1))
timeout --foreground "$seconds" "$folder/gpu_peer_bench" || echo "== gpu_peer_bench: exit code $?"

model=$(mktemp -d)
trap 'rm -rf "$model"' EXIT
first_layers() { # LAYERS
  python3 - "$1" models/configs/qwen3.5-397b-a17b-fp8/config.json "$model/config.json" <<'PYTHON'
import json, sys
layers, source, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
config = json.load(open(source))
text = config.get("text_config", config)
text["num_hidden_layers"] = layers
text["layer_types"] = text["layer_types"][:layers]
json.dump(config, open(target, "w"))
PYTHON
}
first_layers "$layers"

# Prints a row for each number of prompts: what was measured, what the simulator says, by how much that is off.
row() { # LAYOUT CHUNK INPUT OUTPUT PROMPTS[,PROMPTS...]
  local log=$logs/$layers-${1/>/-to-}-$2-$3-$4 prompts measured simulated
  timeout --foreground "$seconds" "$folder/gpu_layout_bench" "$model" "$1" --chunk "$2" --input "$3" --output "$4" \
    --prompts "$5" >"$log.json" 2>"$log.log" || echo "| $1 | $2 | exit code $?: $(tail -n 1 "$log.log") |"
  for prompts in ${5//,/ }; do
    measured=$(grep "\"prompts\":$prompts," "$log.json") || continue
    simulated=$("$folder/hylas" bench simulate --model-path "$model" --gpu "$kind" --layout "$1" --json \
      --chunked-prefill-size "$2" --random-input-len "$3" --random-output-len "$4" --num-prompts "$prompts" 2>>"$log.log")
    print_row "$measured" "$simulated"
  done
}

print_row() { # MEASURED SIMULATED
  python3 - "$1" "$2" <<'PYTHON'
import json, sys
m, s = json.loads(sys.argv[1]), json.loads(sys.argv[2] or "[{}]")[0]
percent = lambda values: " ".join(f"{100 * v:.1f}" for v in values)
rate, guess = m["tokens_per_s"] / m["gpus"], s.get("tokens_per_s_per_gpu", 0)
print(f"| {m['layout']} | {m['chunk']} | {m['prompts']} | {m['tokens_per_s']:.0f} | {rate:.0f} | {m['ttft_mean_s']:.2f} | "
      f"{m['ttft_p50_s']:.2f} | {m['ttft_p99_s']:.2f} | {percent(m['bubble_ratio'])} | "
      f"{percent(m['sums_of_busy'])} | {m.get('tpot_ms', 0):.2f} | {f'{guess:.0f}' if guess else ''} | "
      f"{f'''{s['ttft_mean_s']:.2f}''' if guess else ''} | {percent(s.get('bubble_ratio', []))} | "
      f"{f'{100 * (guess / rate - 1):+.0f} %' if guess else ''} |", flush=True)
PYTHON
}

header() {
  echo
  echo "## $1"
  echo "| layout | chunk | prompts | tok/s | tok/s/GPU | TTFT mean, s | p50 | p99 | bubble of each stage, % | sums over ranks of its work, % | TPOT, ms | simulated: tok/s/GPU | TTFT mean | bubble | error of its tok/s/GPU |"
  echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
}
header "Qwen3.5-397B-A17B-FP8, $layers of 60 layers, $gpus x $kind: $prompts prompts of 3500, 1 out, concurrency 256"
row "tp$gpus" 16384 3500 1 "$prompts"
if [ "$gpus" -ge 8 ]; then
  for chunk in 4096 16384; do row "pp$((gpus / 2))tp2" $chunk 3500 1 "$prompts"; done
fi
for chunk in 4096 16384; do row "pp$gpus" $chunk 3500 1 "$prompts"; done
groups=$([ "$gpus" -ge 8 ] && echo 4 || echo "$gpus")
header "the same, 256 sequences: 1024 in, 64 out"
for layout in "tp$gpus" "tp${gpus}ep$gpus" "tp${gpus}ep${gpus}dp$groups"; do row "$layout" 16384 1024 64 256; done
# So short that decode alone makes the time of an output token.
header "the same, few sequences: 128 in, 128 out"
for layout in "tp$gpus" "tp${gpus}ep$gpus" "tp${gpus}ep${gpus}dp$groups"; do row "$layout" 16384 128 128 2,64; done
case $gpus in
  2 | 3) pair="tp1>tp1" ;;
  [4-7]) pair="pp2>tp2" ;;
  *) pair="pp2tp2>tp4" ;;
esac
half=$(fitting $((gpus / 2)))
[ "$layers" -lt "$half" ] || layers=$half
if [ "$gpus" -ge 2 ]; then
  first_layers "$layers"
  header "$layers of its layers, prompts on the first GPUs and decode on the next: 256 sequences, 1024 in, 64 out"
  row "tp$gpus" 16384 1024 64 256
  row "$pair" 16384 1024 64 256
fi
