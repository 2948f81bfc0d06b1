#!/usr/bin/env bash
# Everything that needs a GPU, in one go: tests/test_gpu.py (2 minutes), the step of LAD 12 -> 6 at the size of BERT-base
# with random weights (a minute each), where its time goes, what is said of memory before a run:
#   bash benchmarks/gpu.sh [FOLDER [NAME...]]
# FOLDER (default: gpu) gets the encoder and a log of each; figures.jsonl has every benchmark's last line. NAME: one of
# these logs, to make only that. From the environment:
#   TASK         whose rows are read (default: sample, generated if it is not there)
#   TOKENIZER    hub name or folder whose tokenizer cuts them (default: one learned from the generated corpus)
#   ROUNDS       of the step's timing (default: 5)
#   DEVICE_ID    number of the GPU (default: 0); -1, the CPU, only shows that the script works
set -uf -o pipefail
OUTPUT="$(realpath -m "${1:-gpu}")" ONLY="${*:2}"
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/root.sh"
PYTHON="${PYTHON:-python3}" TASK="${TASK:-sample}" ROUNDS="${ROUNDS:-5}" DEVICE_ID="${DEVICE_ID:-0}"
ENCODER="$OUTPUT/encoder"
mkdir -p "$OUTPUT"

measure() { # NAME COMMAND...
  local name="$1" start=$SECONDS
  shift
  case " $ONLY " in "  " | *" $name "*) ;; *) return ;; esac
  if "$@" >"$OUTPUT/$name.log" 2>&1; then
    tail -n 1 "$OUTPUT/$name.log" | tee -a "$OUTPUT/figures.jsonl"
  else
    tail -n 20 "$OUTPUT/$name.log"
  fi
  echo "$name: $((SECONDS - start)) s"
}
step() { # NAME FLAGS...
  measure "$1" "$PYTHON" benchmarks/bench_step.py --encoder "$ENCODER" --task "$TASK" --method lad \
    --device_id "$DEVICE_ID" --rounds "$ROUNDS" --memory_steps 100 "${@:2}"
}

[ "$TASK" != sample ] || "$PYTHON" generate_sample_corpus.py
[ -d "$ENCODER" ] || "$PYTHON" benchmarks/random_encoder.py "$ENCODER" ${TOKENIZER:+--tokenizer "$TOKENIZER"}
measure tests "$PYTHON" -m pytest -q tests/test_gpu.py
step fp32
step bf16 --precision bf16
step bf16_compiled --precision bf16 --compile --no_memory
step bf16_cached --precision bf16 --teacher_cache states --no_memory
step fp32_large --batch_size 128 --no_memory
step bf16_large --precision bf16 --batch_size 128 --no_memory
for precision in fp32 bf16; do
  measure "profile_$precision" "$PYTHON" benchmarks/bench_profile.py --encoder "$ENCODER" --task "$TASK" \
    --device_id "$DEVICE_ID" --precision "$precision" --steps 10
  measure "memory_$precision" "$PYTHON" benchmarks/bench_memory.py --encoder "$ENCODER" --task "$TASK" \
    --device_id "$DEVICE_ID" --precision "$precision" --jobs 6
done

"$PYTHON" - "$OUTPUT/figures.jsonl" <<'END'
import json
import sys

print("| flags | ours | released, float32 | ratio (range) | tokens a second | times the floor | memory, ours / released |")
print("|---|---|---|---|---|---|---|")
lines = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
for made in (line for line in lines if "ours_ms" in line):
    flags = f"--precision {made['precision']} --batch_size {made['batch_size']}"
    flags += " --compile" * made["compile"] + f" --teacher_cache {made['teacher_cache']}"
    low, high = made["ratio_range"]
    memory = f"{made['ours_peak_mb']:,} / {made['released_peak_mb']:,} MB" if "ours_peak_mb" in made else ""
    print(
        f"| `{flags}` | {made['ours_ms']} ms | {made['released_ms']} ms | {made['ratio']} ({low} to {high}) "
        f"| {made['tokens_per_s']:,} | {made['times_gemm_floor']} | {memory} |"
    )
END
