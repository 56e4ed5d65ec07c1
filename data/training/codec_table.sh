#!/usr/bin/env bash
# EnCodec-nano beside MP3 and Opus at the lowest rates that they have, on phrases whose instruments and seeds no model has learnt
# from: the table in data/models/README.md.
#
#   data/training/codec_table.sh [PHRASES]      default: 100; needs ffmpeg with libmp3lame and libopus
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v ffmpeg >/dev/null || { echo 'ffmpeg is missing: apt-get install ffmpeg' >&2; exit 1; }
tonoscope="${TONOSCOPE:-${CARGO_TARGET_DIR:-target}/release/tonoscope}"
[ -x "$tonoscope" ] || { echo 'build first: cargo build --release --workspace' >&2; exit 1; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$tonoscope" data render phrases --split test --count "${1:-100}" --out "$place/test" >/dev/null
echo '| codec | kbit/s | mel distance, dB | SI-SDR, dB |'
echo '|---|---|---|---|'
line() { # name, kbit/s, what `data compare` says as JSON
  sed -n 's/.*"mel_distance_db":\([0-9.-]*\).*"si_sdr_db":\([0-9.-]*\).*/\1 \2/p' <<<"$3" |
    { read -r mel sdr; printf '| %s | %.1f | %.2f | %.2f |\n' "$1" "$2" "$mel" "$sdr"; }
}
nano=$("$tonoscope" data compare "$place/test/audio" --codec data/models/encodec-nano --device cpu --json)
line EnCodec-nano "$(sed -n 's/.*"kbit_per_s":\([0-9.]*\).*/\1/p' <<<"$nano")" "$nano"
# name, file's ending, ffmpeg's arguments
while IFS=: read -r name ending arguments; do
  mkdir "$place/$name"
  bytes=0
  for file in "$place"/test/audio/*.wav; do
    # shellcheck disable=SC2086
    ffmpeg -loglevel error -nostdin -i "$file" $arguments "$place/coded.$ending" -y
    bytes=$((bytes + $(stat -c %s "$place/coded.$ending")))
    ffmpeg -loglevel error -nostdin -i "$place/coded.$ending" -ar 32000 -ac 1 "$place/$name/$(basename "$file")" -y
  done
  count=$(find "$place/test/audio" -name '*.wav' | wc -l)
  # Container and header included: that is what is stored.
  rate=$(awk "BEGIN {print $bytes * 8 / $count / 4 / 1000}")
  line "$name" "$rate" "$("$tonoscope" data compare "$place/test/audio" --heard "$place/$name" --json)"
done <<'END'
Opus 6:opus:-c:a libopus -b:a 6k -vbr off -application audio
Opus 12:opus:-c:a libopus -b:a 12k -vbr off -application audio
MP3 8:mp3:-c:a libmp3lame -b:a 8k -ar 16000
MP3 32:mp3:-c:a libmp3lame -b:a 32k
END
