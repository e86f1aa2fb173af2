#!/usr/bin/env bash
# `hylas bench serve` beside an independent client, guidellm (PyPI), on one server with one workload: their TTFT and
# throughput should agree. The server has a core to itself, or the clients' own work would slow what they measure.
#   bench/second_client.sh GUIDELLM [STREAMS] [REQUESTS]     GUIDELLM: the program of a virtual environment with guidellm==0.8.1
set -euo pipefail
guidellm=${1:?the path of guidellm}
streams=${2:-4} requests=${3:-24} port=31557
cd "$(dirname "$0")/.."
model=$(mktemp -d)
trap 'kill -9 $server 2>/dev/null; rm -rf "$model"' EXIT
cp models/hylas-tiny/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$model"
cp models/configs/qwen3.5-0.8b/config.json "$model"  # slow enough for a client's milliseconds not to count

taskset -c 0 build/release/hylas serve --model-path "$model" --load-format dummy --port $port --threads 1 --log-level error &
server=$!
until curl -fs -o /dev/null localhost:$port/health; do sleep 0.5; done
taskset -c 1 build/release/hylas bench serve --base-url http://127.0.0.1:$port --backend openai --vocab-size 1000 \
  --num-prompts "$requests" --random-input-len 96 --random-output-len 24 --random-range-ratio 1 --max-concurrency "$streams"
(cd "$model" && taskset -c 1 "$guidellm" run --disable-console-interactive \
  --backend kind=openai_http,target=http://127.0.0.1:$port,request_format=/v1/completions \
  --profile kind=concurrent,streams="$streams" --constraint kind=max_requests,count="$requests" \
  --data kind=synthetic_text,prompt_tokens=96,output_tokens=24 --tokenizer kind=huggingface_auto,model="$model")
