//! `tonoscope data compare`

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;
use serde_json::json;
use tonoscope_core::audio::{Waveform, mel_distance, si_sdr};

use crate::{
    commands::train::Codec,
    failure::Misuse,
    files::{Inputs, output_file},
    interrupt::{self, Interrupted},
    progress,
    session::DeviceArgs,
    sound::{counterpart, is_sound, read_sound},
    tables::Table,
};

/// Say how much of sounds a codec keeps
///
/// Compares each sound file of a folder with the one of the same name in another folder, which may end otherwise, such as
/// in `.mp3`, or with what an `EnCodec` makes of it. Files are heard as the mean of their channels at the rate of the first
/// folder's.
#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// Folder of sound files as they should be
    #[arg(value_name = "FOLDER")]
    wanted: PathBuf,
    /// Folder of files of the same names, ending aside, as they are
    #[arg(long, value_name = "FOLDER", required_unless_present = "codec", conflicts_with = "codec")]
    heard: Option<PathBuf>,
    /// Checkpoint folder of an `EnCodec` that the files pass through
    #[arg(long, value_name = "FOLDER")]
    codec: Option<PathBuf>,
    /// Write a line for every file as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One file.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    /// Mean absolute difference of 64 mel bands.
    mel_distance_db: Option<f64>,
    si_sdr_db: Option<f64>,
}

/// What files pass through.
struct Through {
    codec: Codec,
    device: burn::tensor::Device,
    /// How often each entry of each codebook was taken.
    counts: Vec<Vec<u64>>,
}

pub(super) fn run(args: &CompareArgs, out: &mut dyn Write) -> Result<()> {
    interrupt::listen();
    let names = sound_names(&args.wanted)?;
    let heard = match &args.heard {
        Some(folder) => names.iter().map(|name| counterpart(folder, name)).collect::<Result<Vec<_>>>()?,
        None => vec![],
    };
    let wanted = names.iter().map(|name| args.wanted.join(name));
    let inputs = Inputs::new(wanted.chain(heard.iter().cloned()));
    let target = args.csv.as_deref().map(|path| output_file(path, &inputs)).transpose()?;
    let mut through = match &args.codec {
        Some(folder) => Some(Through::open(folder, &args.device)?),
        None => None,
    };
    let bar = progress::steps(names.len() as u64, "comparing", "files");
    let mut rows = vec![];
    for (index, name) in names.into_iter().enumerate() {
        if interrupt::asked() {
            return Err(Interrupted::NothingWritten.into());
        }
        let wanted = read_sound(&args.wanted.join(&name))?.to_mono();
        let shown = name.display().to_string();
        let (wanted, heard) = match (&mut through, &args.heard) {
            (Some(through), _) => through.pass(wanted).with_context(|| format!("`{shown}`"))?,
            (None, Some(_)) => {
                let heard = read_sound(&heard[index])?.to_mono().resample(wanted.sample_rate())?;
                (wanted, heard)
            }
            (None, None) => return Err(Misuse::new("nothing to compare with").into()),
        };
        rows.push(row(shown, &wanted, &heard)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some((folder, name)) = target {
        let mut table = Table::new();
        for row in &rows {
            table.push(row)?;
        }
        table.write(&folder, &name)?;
    }
    let mean = |value: &dyn Fn(&Row) -> Option<f64>| {
        let values: Vec<f64> = rows.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let [mel, sdr] = [mean(&|row| row.mel_distance_db), mean(&|row| row.si_sdr_db)];
    let perplexities = through.as_ref().map(Through::perplexities);
    let rate = through.as_ref().map(|through| through.codec.config.target_bandwidths.last().copied().unwrap_or(0.0));
    if args.json {
        let told = json!({"files": rows.len(), "mel_distance_db": mel, "si_sdr_db": sdr, "kbit_per_s": rate,
            "perplexities": perplexities});
        return Ok(writeln!(out, "{told}")?);
    }
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    writeln!(out, "{} files: mel distance {} dB, SI-SDR {} dB", rows.len(), shown(mel), shown(sdr))?;
    if let (Some(rate), Some(perplexities)) = (rate, perplexities) {
        let used: Vec<String> = perplexities.iter().map(|number| format!("{number:.0}")).collect();
        writeln!(out, "{rate} kbit/s; perplexity of the codebooks: {}", used.join(", "))?;
    }
    Ok(())
}

/// Names of the sound files in `folder`, sorted.
fn sound_names(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names = vec![];
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.file_name();
        names.extend(Some(PathBuf::from(name)).filter(|name| is_sound(name)));
    }
    names.sort();
    if names.is_empty() {
        return Err(Misuse::new(format!("`{}` holds no sound files", folder.display())).into());
    }
    Ok(names)
}

fn row(file: String, wanted: &Waveform, heard: &Waveform) -> Result<Row> {
    let (wanted, rate) = (&wanted.channels()[0], wanted.sample_rate());
    let heard = &heard.channels()[0];
    let samples = wanted.len().min(heard.len());
    // A decoder may round the length up or down to its frames, but what is half a second off is another sound.
    let off = wanted.len().abs_diff(heard.len());
    ensure!(off <= rate as usize / 2, "`{file}` is {:.2} s longer or shorter", off as f64 / f64::from(rate));
    let (wanted, heard) = (&wanted[..samples], &heard[..samples]);
    Ok(Row { file, mel_distance_db: mel_distance(heard, wanted, rate), si_sdr_db: si_sdr(heard, wanted) })
}

impl Through {
    fn open(folder: &Path, device: &DeviceArgs) -> Result<Self> {
        let placement = device.open()?.placement;
        let codec = Codec::open(folder, placement.clone())?;
        ensure!(codec.config.audio_channels == 1, "`{}` is not a codec of one channel", folder.display());
        let counts = vec![vec![0; codec.config.codebook_size]; codec.config.num_quantizers()];
        Ok(Self { codec, device: placement.device, counts })
    }

    /// A sound at the codec's rate, and what becomes of it.
    fn pass(&mut self, wave: Waveform) -> Result<(Waveform, Waveform)> {
        let rate = self.codec.config.sampling_rate;
        let wave = wave.resample(rate)?;
        let samples = wave.samples();
        ensure!(samples > self.codec.config.hop_length(), "it is shorter than two frames of codes");
        let data = TensorData::new(wave.channels()[0].clone(), [1, 1, samples]);
        let codes = self.codec.model.encode(Tensor::<3>::from_data(data, &self.device));
        let [_, codebooks, frames] = codes.dims();
        let flat = pollster::block_on(codes.clone().into_data_async())?.convert::<i64>();
        let flat: Vec<i64> = flat.try_to_vec().map_err(|error| anyhow!("codes that cannot be read: {error:?}"))?;
        for (counts, codes) in self.counts[..codebooks].iter_mut().zip(flat.chunks_exact(frames)) {
            for &code in codes {
                if let Some(count) = usize::try_from(code).ok().and_then(|code| counts.get_mut(code)) {
                    *count += 1;
                }
            }
        }
        let heard = pollster::block_on(self.codec.model.decode(codes).into_data_async())?.convert::<f32>();
        let mut heard: Vec<f32> =
            heard.try_to_vec().map_err(|error| anyhow!("sound that cannot be read: {error:?}"))?;
        heard.truncate(samples);
        Ok((wave, Waveform::new(vec![heard], rate)?))
    }

    /// As many entries, were they taken equally often, as each codebook seems to have.
    fn perplexities(&self) -> Vec<f64> {
        let perplexity = |counts: &Vec<u64>| {
            let sum = counts.iter().sum::<u64>().max(1) as f64;
            let entropy: f64 = counts
                .iter()
                .filter(|&&count| count > 0)
                .map(|&count| count as f64 / sum)
                .map(|share| -share * share.ln())
                .sum();
            entropy.exp()
        };
        self.counts.iter().map(perplexity).collect()
    }
}
