//! A folder of generated audio: which steps, prompts and samples it has.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::no_step;
use tonoscope_hub::hex;

use crate::{
    commands::diffuse::{INFO, audio, step_folder},
    csv_input::{CsvInput, number},
    failure::Misuse,
    prompt_file,
};

/// Samples of a prompt that are looked for.
const MOST_SAMPLES: usize = 1_000_000;

/// What lies in a folder of `diffuse`.
#[derive(Debug)]
pub(super) struct Generated {
    folder: PathBuf,
    /// Sorted.
    pub(super) steps: Vec<usize>,
    /// In the order of their indices.
    pub(super) prompts: Vec<String>,
    /// Of each prompt.
    pub(super) samples: usize,
}

impl Generated {
    /// Looks into `folder`; of `steps`, if there are any, and takes the prompts from `prompts` where the folder does not say
    /// them.
    ///
    /// # Errors
    /// [`Misuse`] if it is not such a folder, or not finished.
    pub(super) fn open(folder: &Path, steps: &[usize], prompts: Option<&Path>) -> Result<Self> {
        let steps = chosen_steps(folder, steps)?;
        let info = folder.join(INFO);
        let (prompts, samples) = match (prompts, info.is_file()) {
            (Some(path), _) => {
                let prompts = prompt_file::read(path)?;
                let first = steps.first().copied().unwrap_or_default();
                let is_there = |sample: &usize| folder.join(audio(first, 0, *sample)).is_file();
                (prompts, (0..MOST_SAMPLES).take_while(is_there).count())
            }
            (None, true) => from_info(&info)?,
            (None, false) => {
                let misuse =
                    Misuse::new(format!("`{}` has no `{INFO}`: not all prompts are finished", folder.display()));
                let hint =
                    "run the jobs that have not finished, then `tonoscope merge`; or name the prompts with `--prompts`";
                return Err(misuse.hint(hint).into());
            }
        };
        if prompts.is_empty() || samples == 0 {
            return Err(Misuse::new(format!("`{}` holds no audio", folder.display())).into());
        }
        Ok(Self { folder: folder.to_owned(), steps, prompts, samples })
    }

    /// The files of a prompt, step after step.
    pub(super) fn files(&self, prompt: usize) -> impl Iterator<Item = PathBuf> {
        let files = self.steps.iter().flat_map(move |&step| (0..self.samples).map(move |sample| (step, sample)));
        files.map(move |(step, sample)| self.folder.join(audio(step, prompt, sample)))
    }

    /// Makes sure that all files are there, before hours are spent on the first of them.
    pub(super) fn check_files(&self) -> Result<()> {
        let mut missing = (0..self.prompts.len()).flat_map(|prompt| self.files(prompt)).filter(|path| !path.is_file());
        let Some(first) = missing.next() else { return Ok(()) };
        let what = format!("{} files are missing, `{}` being the first", missing.count() + 1, first.display());
        Err(Misuse::new(what).hint("run the same `tonoscope diffuse` again: it makes what is not there").into())
    }

    /// Differs if the sounds were made with other settings.
    pub(super) fn digest(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        for name in [INFO, "units/key.json"] {
            let path = self.folder.join(name);
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
                read => read.with_context(|| format!("cannot read `{}`", path.display()))?,
            };
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        Ok(hex(&hasher.finalize()))
    }
}

/// Steps that have a folder, or those of them that are asked for; sorted.
pub(super) fn chosen_steps(folder: &Path, asked: &[usize]) -> Result<Vec<usize>> {
    let mut there = vec![];
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    for entry in listed.with_context(|| format!("cannot read the folder `{}`", folder.display()))? {
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("diff_step_")).and_then(|step| step.parse().ok());
        // An empty folder is what an overwritten run has left.
        let has_files = || fs::read_dir(entry.path()).is_ok_and(|mut files| files.next().is_some());
        if let Some(step) = step.filter(|&step: &usize| *step_folder(step) == *name && has_files()) {
            there.push(step);
        }
    }
    there.sort_unstable();
    if there.is_empty() {
        let misuse = Misuse::new(format!("`{}` has no folder `diff_step_N`", folder.display()));
        return Err(misuse.hint("pass the folder that `tonoscope diffuse` has written").into());
    }
    if let Some(&step) = asked.iter().find(|step| !there.contains(step)) {
        return Err(no_step(step, &there).into());
    }
    there.retain(|step| asked.is_empty() || asked.contains(step));
    Ok(there)
}

/// Prompts and number of samples that the table of files lists.
pub(super) fn from_info(path: &Path) -> Result<(Vec<String>, usize)> {
    let mut prompts: BTreeMap<usize, String> = BTreeMap::new();
    let mut samples = 0;
    let mut conflict = None;
    let input = CsvInput::open(path)?;
    let column = |name: &str| input.column(name);
    let (index, sample, text) = (column("prompt_index")?, column("sample_index")?, column("prompt")?);
    input.each(|record| {
        samples = samples.max(number::<usize>(record, sample)?.saturating_add(1));
        let (index, text) = (number(record, index)?, &record[text]);
        if prompts.entry(index).or_insert_with(|| text.to_owned()) != text {
            conflict.get_or_insert(index);
        }
        Ok(())
    })?;
    if let Some(index) = conflict {
        let what = format!("`{}`: prompt {index} is two different texts", path.display());
        return Err(Misuse::new(what).hint("name the prompts with `--prompts`").into());
    }
    if let Some((place, index)) = prompts.keys().enumerate().find(|(place, index)| *place != **index) {
        let what = format!("`{}` has no prompt {place}, but {index}", path.display());
        return Err(Misuse::new(what).hint("name the prompts with `--prompts`").into());
    }
    Ok((prompts.into_values().collect(), samples))
}
