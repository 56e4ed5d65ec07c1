//! A pipeline on disk: a folder, settings for all steps, and a table for each.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;
use toml::{Table, Value};

use super::{
    Planned,
    argv::{Argument, Line},
    step::{STEPS, Step},
};
use crate::{Cli, failure::Misuse, job::JobArgs};

/// Where everything lies that the steps make.
const FOLDER: &str = "folder";
/// Settings that mean the same to every step that has them: they may stand above the tables.
const COMMON: [&str; 3] = ["device", "dtype", "weights"];

/// The settings of a file, not given to the commands yet.
#[derive(Debug)]
pub(super) struct PipelineFile {
    path: PathBuf,
    folder: PathBuf,
    /// Settings above the tables: for every step that has such an option.
    common: Table,
    steps: Vec<(&'static str, Table)>,
}

impl PipelineFile {
    /// Reads `text`, the content of `path`.
    ///
    /// # Errors
    /// [`Misuse`] names what is no TOML, no step, or no setting of any step.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let file = path.display();
        let table: Table = text.parse().map_err(|error| Misuse::new(format!("`{file}` is no TOML: {error}")))?;
        let mut parsed =
            Self { path: path.to_owned(), folder: PathBuf::from("."), common: Table::new(), steps: vec![] };
        for (name, value) in table {
            match value {
                Value::Table(settings) => {
                    let Some(step) = STEPS.iter().find(|step| step.table == name) else {
                        let known: Vec<String> = STEPS.iter().map(|step| format!("`[{}]`", step.table)).collect();
                        let misuse = Misuse::new(format!("`{file}`: there is no step `[{name}]`"));
                        return Err(misuse.hint(format!("the steps are {}", known.join(", "))).into());
                    };
                    parsed.steps.push((step.table, settings));
                }
                Value::String(folder) if name == FOLDER => parsed.folder = PathBuf::from(folder),
                other if name == FOLDER => {
                    return Err(Misuse::new(format!("`{file}`: `{FOLDER}` is `{other}`, expected a text")).into());
                }
                value => {
                    parsed.common.insert(name, value);
                }
            }
        }
        parsed.check_common()?;
        Ok(parsed)
    }

    fn check_common(&self) -> Result<(), Misuse> {
        let Some(name) = self.common.keys().find(|name| !COMMON.contains(&name.as_str())) else { return Ok(()) };
        let known: Vec<String> = COMMON.iter().map(|name| format!("`{name}`")).collect();
        let what = format!("`{}`: `{name}` stands above the tables", self.path.display());
        let hint = format!("put it into the table of its step; above stand `{FOLDER}`, {} alone", known.join(", "));
        Err(Misuse::new(what).hint(hint))
    }

    /// The command line of `step`, parsed by the command's own parser.
    ///
    /// # Errors
    /// [`Misuse`] with the parser's words and the name of the table.
    pub(super) fn plan(&self, step: &'static Step, job: &JobArgs) -> Result<Planned> {
        let command = step.command();
        let empty = Table::new();
        let own = self.steps.iter().find(|(table, _)| *table == step.table).map_or(&empty, |(_, settings)| settings);
        let mut line = Line::default();
        let refused = |name: &str, reason: String| {
            Misuse::new(format!("`{}`: `{name}` of `[{}]`: {reason}", self.path.display(), step.table))
        };
        let mut add = |name: &str, value: &Value| line.add(&command, name, value).map_err(|why| refused(name, why));
        let mut paths = [vec![], vec![]];
        for (files, paths) in [step.takes, step.makes].into_iter().zip(&mut paths) {
            for (name, file) in files {
                match own.get(*name) {
                    Some(Value::String(said)) => paths.push(said.clone()),
                    Some(_) => {}
                    None => {
                        let path = self.folder.join(file).to_string_lossy().into_owned();
                        add(name, &Value::String(path.clone()))?;
                        paths.push(path);
                    }
                }
            }
        }
        for (name, value) in &self.common {
            if !own.contains_key(name) && Argument::find(&command, name).is_some() {
                add(name, value)?;
            }
        }
        for (name, value) in own {
            add(name, value)?;
        }
        if step.splits() {
            for (name, number) in [("job-index", job.job_index), ("num-jobs", job.num_jobs)] {
                if let Some(number) = number {
                    add(name, &Value::Integer(i64::try_from(number)?))?;
                }
            }
        }
        let words = line.finish(step.words);
        let parsed = Cli::try_parse_from(std::iter::once("tonoscope").chain(words.iter().map(String::as_str)));
        let parsed = parsed.map_err(|error| self.in_own_words(step, &error))?;
        let [takes, makes] = paths;
        Ok(Planned { step, words, command: parsed.command, takes, makes })
    }

    /// What the parser says, without how the command is used: nobody has typed it.
    fn in_own_words(&self, step: &Step, error: &clap::Error) -> Misuse {
        let text = error.render().to_string();
        let said: Vec<&str> = text
            .lines()
            .map(|line| line.trim().trim_start_matches("error: "))
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
            .filter(|line| !line.is_empty())
            .collect();
        let what = format!("`{}`: `[{}]`: {}", self.path.display(), step.table, said.join("; "));
        Misuse::new(what).hint(format!("`tonoscope {} --help` lists what the table takes", step.words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str, table: &str) -> Result<Planned, String> {
        let file = PipelineFile::parse(Path::new("p.toml"), text).map_err(|error| error.to_string())?;
        let step = STEPS.iter().find(|step| step.table == table).unwrap();
        file.plan(step, &JobArgs::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_follow_from_the_folder_unless_the_file_says_otherwise() {
        let made = planned("folder = 'run'\ndevice = 'cpu'\n[diffuse]\nsteps = 7\nprompts = 'mine.txt'", "diffuse");
        let made = made.unwrap();
        let expected = [
            "diffuse",
            "--annotations=run/annotations.json",
            "--out=run/generated",
            "--device=cpu",
            "--prompts=mine.txt",
        ];
        assert_eq!(made.words[..5], expected);
        assert_eq!(
            (made.takes, made.makes),
            (vec!["mine.txt".to_owned(), "run/annotations.json".to_owned()], vec!["run/generated".to_owned()])
        );
    }

    #[test]
    fn what_no_command_knows_is_refused_with_its_table() {
        let error = planned("[diffuse]\nstepz = 3", "diffuse").unwrap_err();
        assert!(error.contains("`[diffuse]`") && error.contains("--stepz") && error.contains("--steps"), "{error}");
        let error = planned("[diffuse]\nsteps = 'many'", "diffuse").unwrap_err();
        assert!(error.contains("`[diffuse]`") && error.contains("many"), "{error}");
        assert!(planned("[difuse]", "diffuse").unwrap_err().contains("no step `[difuse]`"));
        assert!(planned("steps = 3\nfolder = 7", "diffuse").unwrap_err().contains("expected a text"));
        assert!(planned("colour = 'red'", "diffuse").unwrap_err().contains("`colour` stands above"));
        assert!(planned("[diffuse", "diffuse").unwrap_err().contains("no TOML"));
    }
}
