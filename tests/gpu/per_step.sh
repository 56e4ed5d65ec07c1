#!/usr/bin/env bash
# What one step of a model asks of a GPU: the counts of a longer run less those of a shorter one, divided by the steps between.
#
#   tests/gpu/per_step.sh decode TONOSCOPE [MODEL]    a guided decode step of one prompt and its share of the codec [musicgen-nano]
#   tests/gpu/per_step.sh denoise TONOSCOPE [MODEL]   a guided denoising step of one sample [stable-audio-nano]
#
# Any Vulkan driver will do, one in software too (Debian: cc, libvulkan-dev, libvulkan1, mesa-vulkan-drivers). Counts do not
# depend on how busy the machine is. Exit status 3: a compiler or the headers are missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
what=$1 bin=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cc -O1 -shared -fPIC -o "$work/libcount.so" "$here/count_layer.c" 2>"$work/cc.log" || { cat "$work/cc.log" >&2; exit 3; }
cat >"$work/count.json" <<JSON
{"file_format_version": "1.1.0", "layer": {"name": "VK_LAYER_count", "type": "GLOBAL", "library_path": "$work/libcount.so",
 "api_version": "1.3.230", "implementation_version": "1", "description": "counts"}}
JSON

# counted NAME ARGUMENT…: runs tonoscope, leaves its counts in $work/NAME.
counted() {
  local name=$1
  shift
  VK_LAYER_PATH=$work VK_INSTANCE_LAYERS=VK_LAYER_count COUNT_OUT=$work/$name XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work} \
    "$bin" "$@" --device webgpu --prompt 'a slow piano melody' --out "$work/out-$name" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}

case $what in
  decode)
    for seconds in 0.2 0.4; do counted $seconds generate --model "${3:-musicgen-nano}" --greedy --duration $seconds; done
    short=$work/0.2 long=$work/0.4 steps=10 ;;
  denoise)
    for count in 3 5; do
      counted $count diffuse --model "${3:-stable-audio-nano}" --samples 1 --steps $count --snapshots $((count - 1)) --seed 1
    done
    short=$work/3 long=$work/5 steps=2 ;;
  *)
    echo "decode or denoise" >&2
    exit 2 ;;
esac
number() { sed -n "s/.*\b$1=\([0-9]*\).*/\1/p" "$2"; }
for key in CmdDispatch CmdCopyBuffer QueueSubmit CreateBuffer CreateComputePipelines; do
  echo "$key $(( ($(number $key "$long") - $(number $key "$short") + steps / 2) / steps ))"
done
echo "largest_buffer $(number largest_buffer "$long")"
