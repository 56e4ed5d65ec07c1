"""Writes tests/fixtures/sound/: sound files of every kind that is read, and what libsndfile and ffmpeg make of them.

    python tests/reference/sound_formats.py     (soundfile 0.14.0, numpy 2.4; ffmpeg 5.1, sox 14.4, flac 1.4, lame 3.100,
                                                 oggenc 1.4, opusenc 0.2 with libopus 1.3)

`expected.safetensors` holds decoded samples as [channel, sample], of lossy files every 17th; its metadata says which tensor
belongs to which file, and how many samples each channel has. Files of floats differ from run to run: libsndfile writes the
time into them.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess

import numpy as np
import soundfile as sf
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
OUT = HERE.parent / "fixtures" / "sound"
WORK = OUT / "work"
STRIDE = 17
EXACT = ["-fflags", "+bitexact", "-flags:a", "+bitexact"]
rng = np.random.default_rng(0)
tensors, files = {}, {}


def music(rate, seconds, channels):
    """Tones, and noise that begins suddenly."""
    t = np.arange(int(rate * seconds)) / rate
    planes = []
    for c in range(channels):
        x = 0.3 * np.sin(2 * np.pi * (330 + 40 * c) * t) + 0.15 * np.sin(2 * np.pi * 1500 * t) * np.exp(-3 * t)
        planes.append(x + 0.1 * rng.standard_normal(len(t)) * np.exp(-20 * ((t + 0.05 * c) % 0.1)))
    return np.stack(planes, 1)


def run(*command, **how):
    subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL, **how)


def piped(name, *command):
    """What a program writes to a pipe, where it cannot come back to the sizes."""
    made = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    (OUT / name).write_bytes(made.communicate()[0])
    assert made.returncode == 0


def ffmpeg_reads(path):
    probe = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "stream=channels,sample_rate", "-of", "json", path]
    stream = json.loads(subprocess.run(probe, check=True, capture_output=True).stdout)["streams"][0]
    # For layer II, ffmpeg would take its decoder in fixed point.
    decoder = ["-c:a", "mp2float"] if path.suffix == ".mp2" else []
    command = ["ffmpeg", "-v", "error", *decoder, "-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    raw = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<f4")
    return raw.reshape(-1, stream["channels"]), int(stream["sample_rate"])


def sndfile_reads(path):
    # In 64 bit, so that 32-bit integers are rounded once.
    x, rate = sf.read(path, dtype="float64", always_2d=True)
    return x.astype(np.float32), rate


def keep(name, decoded, kind, samples=None):
    """Notes what a reference makes of a file; `samples`: how many the encoder was given."""
    x, rate = decoded
    if samples is not None:
        assert len(x) >= samples, (name, len(x), samples)
        x = x[:samples]
    planes = np.ascontiguousarray(x.T if kind == "lossless" else x.T[:, ::STRIDE])
    tensor = hashlib.sha256(planes.tobytes() + str(planes.shape).encode()).hexdigest()[:12]
    tensors[tensor] = planes
    files[name] = dict(tensor=tensor, rate=rate, samples=len(x), stride=1 if kind == "lossless" else STRIDE)


def lossless():
    x = music(44100, 400 / 44100, 2)
    x[:2] = [[-1, 1 - 2.0**-30], [0, 2.0**-23]]
    for subtype in ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"]:
        name = f"{subtype.lower()}.wav"
        sf.write(OUT / name, x, 44100, subtype=subtype)
    for container, suffix in [("WAVEX", "wavex.wav"), ("RF64", "rf64.wav"), ("W64", "w64"), ("AIFF", "aiff")]:
        sf.write(OUT / f"pcm_24.{suffix}", x, 44100, format=container, subtype="PCM_24")
    sf.write(OUT / "float.aifc", x, 44100, format="AIFF", subtype="FLOAT")
    sf.write(OUT / "pcm_s8.aiff", x, 44100, format="AIFF", subtype="PCM_S8")
    sf.write(OUT / "pcm_16.wavex.wav", x, 44100, format="WAVEX", subtype="PCM_16")
    source = OUT / "pcm_24.wav"
    run("ffmpeg", "-v", "error", "-i", source, "-c:a", "pcm_s16be", "-f", "aiff", OUT / "pcm_16.aiff")
    run("ffmpeg", "-v", "error", "-i", source, "-c:a", "pcm_s16le", "-f", "aiff", OUT / "pcm_16_little.aifc")
    piped("piped_ffmpeg.wav", "ffmpeg", "-v", "error", "-i", source, "-c:a", "pcm_s24le", "-f", "wav", "-")
    piped("piped_sox.wav", "sox", source, "-t", "wav", "-")
    piped("piped_sox.aiff", "sox", source, "-t", "aiff", "-")
    run("flac", "-s", "--no-padding", OUT / "pcm_16.wav", "-o", OUT / "pcm_16.flac")
    run("flac", "-s", "--no-padding", source, "-o", OUT / "pcm_24.flac")
    run("ffmpeg", "-v", "error", "-i", OUT / "pcm_16.wav", "-c:a", "flac", "-f", "ogg", *EXACT, OUT / "pcm_16.oga")
    run("ffmpeg", "-v", "error", "-i", OUT / "pcm_16.wav", "-c:a", "alac", OUT / "alac.m4a")
    for path in sorted(OUT.iterdir()):
        if not path.is_file():
            continue
        # libsndfile knows neither ALAC nor FLAC as ffmpeg puts it into Ogg.
        known = path.suffix not in (".m4a", ".oga")
        decoded = sndfile_reads(path) if known else ffmpeg_reads(path)
        assert len(decoded[0]) == len(x), (path.name, len(decoded[0]))
        keep(path.name, decoded, "lossless")


def lossy():
    stereo, mono, low, wide = (WORK / f"{name}.wav" for name in ["stereo", "mono", "low", "wide"])
    lengths = {}
    for path, rate, seconds, channels in [(stereo, 44100, 0.3, 2), (mono, 48000, 0.3, 1), (low, 16000, 0.4, 1), (wide, 48000, 0.1, 6)]:
        sf.write(path, music(rate, seconds, channels), rate, subtype="PCM_16")
        lengths[path] = int(rate * seconds)
    # MP3: with and without the frame that tells its length, MPEG 1 and 2.
    run("lame", "--quiet", "-b", "128", stereo, OUT / "lame_cbr.mp3")
    run("lame", "--quiet", "-V", "4", stereo, OUT / "lame_vbr.mp3")
    run("ffmpeg", "-v", "error", "-i", stereo, "-c:a", "libmp3lame", "-q:a", "7", "-write_xing", "0", "-id3v2_version", "0", OUT / "no_header.mp3")
    run("ffmpeg", "-v", "error", "-i", low, "-c:a", "libmp3lame", "-b:a", "32k", OUT / "mpeg2_mono.mp3")
    run("ffmpeg", "-v", "error", "-i", stereo, "-c:a", "mp2", "-b:a", "96k", OUT / "layer2.mp2")
    for name, samples in [("lame_cbr.mp3", lengths[stereo]), ("lame_vbr.mp3", lengths[stereo]), ("mpeg2_mono.mp3", lengths[low]),
                          ("no_header.mp3", None), ("layer2.mp2", None)]:
        decoded = ffmpeg_reads(OUT / name)
        assert samples in (None, len(decoded[0])), (name, len(decoded[0]), samples)
        keep(name, decoded, "lossy")
    run("oggenc", "-Q", "-s", "1", "-q", "1", stereo, "-o", OUT / "stereo.ogg")
    run("ffmpeg", "-v", "error", "-i", low, "-c:a", "libvorbis", "-q:a", "2", *EXACT, OUT / "mono.ogg")
    for name, samples in [("stereo.ogg", lengths[stereo]), ("mono.ogg", lengths[low])]:
        decoded = sndfile_reads(OUT / name)
        assert len(decoded[0]) == samples, (name, len(decoded[0]))
        keep(name, decoded, "lossy")
    # Two streams one after the other, as radio stations send them.
    (OUT / "chained.ogg").write_bytes((OUT / "mono.ogg").read_bytes() * 2)
    keep("chained.ogg", (np.concatenate([sndfile_reads(OUT / "mono.ogg")[0]] * 2), 16000), "lossy")
    # Opus: music (CELT), speech (SILK), both (hybrid), short frames, six channels. It always decodes to 48 kHz.
    for name, source, options in [
        ("celt.opus", stereo, ["--bitrate", "64"]), ("silk.opus", low, ["--bitrate", "12", "--speech"]),
        ("hybrid.opus", mono, ["--bitrate", "24", "--speech"]), ("short_frames.opus", mono, ["--bitrate", "48", "--framesize", "2.5"]),
        ("six_channels.opus", wide, ["--bitrate", "128"]),
    ]:
        run("opusenc", "--quiet", "--serial", "1", "--discard-comments", *options, source, OUT / name)
        decoded = WORK / f"{name}.wav"
        run("opusdec", "--quiet", "--float", "--rate", "48000", OUT / name, decoded)
        x, rate = sf.read(decoded, dtype="float32", always_2d=True)
        with sf.SoundFile(source) as given:
            assert abs(len(x) - len(given) * 48000 / given.samplerate) < 1, (name, len(x))
        keep(name, (x, rate), "lossy")
    # AAC: MP4 with an edit list, in fragments, and without a container. ffmpeg leaves the encoder's padding at the end.
    run("ffmpeg", "-v", "error", "-i", stereo, "-c:a", "aac", "-b:a", "96k", OUT / "stereo.m4a")
    run("ffmpeg", "-v", "error", "-i", mono, "-c:a", "aac", "-b:a", "64k", "-movflags", "frag_keyframe+empty_moov+default_base_moof", OUT / "fragments.m4a")
    run("ffmpeg", "-v", "error", "-i", mono, "-c:a", "aac", "-b:a", "64k", OUT / "mono.aac")
    run("ffmpeg", "-v", "error", "-i", low, "-c:a", "aac", "-b:a", "24k", OUT / "low.m4a")
    keep("stereo.m4a", ffmpeg_reads(OUT / "stereo.m4a"), "lossy", lengths[stereo])
    keep("low.m4a", ffmpeg_reads(OUT / "low.m4a"), "lossy", lengths[low])
    keep("fragments.m4a", ffmpeg_reads(OUT / "fragments.m4a"), "lossy")
    keep("mono.aac", ffmpeg_reads(OUT / "mono.aac"), "lossy")


shutil.rmtree(OUT, ignore_errors=True)
WORK.mkdir(parents=True)
lossless()
lossy()
shutil.rmtree(WORK)
versions = dict(libsndfile=sf.__libsndfile_version__, soundfile=sf.__version__, script="tests/reference/sound_formats.py")
save_file(tensors, OUT / "expected.safetensors", metadata=dict(files=json.dumps(files), **versions))
print(sum(path.stat().st_size for path in OUT.iterdir()), "bytes in", len(files), "files")
