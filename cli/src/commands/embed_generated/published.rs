//! Published embeddings, `diff_step_N/*_embeddings.pt`, as files of `embed-generated`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, TensorData};
use safetensors::Dtype;
use tonoscope_core::checkpoint::read_torch_tensor;

use super::{EmbedGeneratedArgs, say, source, write_steps};
use crate::{
    commands::diffuse::{INFO, step_folder},
    failure::Misuse,
    files::OutputFolder,
    prompt_file,
};

const ENDING: &str = "_embeddings.pt";

/// Everything is read and checked before anything is written.
pub(super) fn convert(args: &EmbedGeneratedArgs, out: &mut dyn Write) -> Result<()> {
    let steps = source::chosen_steps(&args.generated, &args.steps)?;
    let info = args.generated.join(INFO);
    let prompts = match &args.prompts {
        Some(path) => prompt_file::read(path)?,
        None if info.is_file() => source::from_info(&info)?.0,
        None => {
            let misuse = Misuse::new(format!("nothing says what the prompts of `{}` are", args.generated.display()));
            return Err(misuse.hint("name them with `--prompts prompt.txt`").into());
        }
    };
    let mut read = vec![];
    let mut first: Option<(Vec<usize>, PathBuf)> = None;
    for step in steps {
        let path = embeddings_file(&args.generated.join(step_folder(step)))?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let (shape, values) = tensor(&bytes).with_context(|| format!("`{}`", path.display()))?;
        let (expected, of) = first.get_or_insert_with(|| (shape.clone(), path.clone()));
        if *expected != shape {
            let (of, path) = (of.display(), path.display());
            return Err(Misuse::new(format!("`{path}` is of shape {shape:?}, but `{of}` of {expected:?}")).into());
        }
        read.push((step, values));
    }
    let Some((shape, path)) = first else { bail!(Misuse::new("no step to convert")) };
    let &[rows, samples, width] = shape.as_slice() else {
        let what = format!("`{}` is of shape {shape:?}, expected prompts, samples and features", path.display());
        return Err(Misuse::new(what).into());
    };
    if rows != prompts.len() {
        let what = format!("`{}` is about {rows} prompts, but {} are known", path.display(), prompts.len());
        return Err(Misuse::new(what).hint("name the prompts that were generated with `--prompts`").into());
    }
    let numbers: Vec<usize> = read.iter().map(|(step, _)| *step).collect();
    if args.dry_run {
        let out_folder = args.out.display();
        writeln!(
            out,
            "would convert {} files of {rows} prompts and {samples} samples into `{out_folder}`",
            read.len()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.out, &args.inputs())?;
    let model = model_name(&path);
    write_steps(&folder, &model, &prompts, [samples, width], &read)?;
    say(folder.path(), rows, samples, &numbers, args.json, out)
}

/// The one file of embeddings in `folder`.
fn embeddings_file(folder: &Path) -> Result<PathBuf> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let listed = listed.with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    let is_one = |path: &PathBuf| {
        path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ENDING))
    };
    let mut found: Vec<PathBuf> = listed.iter().map(fs::DirEntry::path).filter(is_one).collect();
    found.sort();
    if let [only] = found.as_slice() {
        return Ok(only.clone());
    }
    let what = format!("`{}` holds {} files `*{ENDING}`, expected one", folder.display(), found.len());
    Err(Misuse::new(what).hint("leave one of them there, or choose other `--steps`").into())
}

/// What stands before the ending: `laion-clap`.
fn model_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(ENDING).unwrap_or(&name).to_owned()
}

fn tensor(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>)> {
    let raw = read_torch_tensor(bytes)?;
    let dtype = match raw.dtype {
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => DType::F32,
    };
    let data = TensorData::from_bytes_vec(raw.bytes.into_owned(), raw.shape.clone(), dtype);
    let values: Vec<f32> = data.convert::<f32>().try_to_vec()?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(place) => bail!("value {place} is {}, expected a finite number", values[place]),
        None => Ok((raw.shape, values)),
    }
}
