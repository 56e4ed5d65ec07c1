//! From a table of settings to a command line, as the command's own parser knows its arguments.

use clap::ArgAction;
use toml::Value;

/// An argument of a command, found by its name in a file.
pub(super) enum Argument {
    /// `--name`, by itself.
    Flag,
    /// `--name=VALUE`.
    Option {
        /// Whether it may be given several times; if not, the values of a list go into one.
        repeats: bool,
    },
    /// `VALUE`, at this place.
    Positional(usize),
}

impl Argument {
    /// The argument of `command` that is called `name`: a long option, or a positional argument.
    pub(super) fn find(command: &clap::Command, name: &str) -> Option<Self> {
        let positionals: Vec<&clap::Arg> = command.get_positionals().collect();
        if let Some(at) = positionals.iter().position(|argument| argument.get_id().as_str().replace('_', "-") == name) {
            return Some(Self::Positional(at));
        }
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(name))?;
        Some(match argument.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse | ArgAction::Count => Self::Flag,
            action => Self::Option { repeats: matches!(action, ArgAction::Append) },
        })
    }
}

/// A command line on its way.
#[derive(Debug, Default)]
pub(super) struct Line {
    options: Vec<String>,
    positionals: Vec<(usize, Vec<String>)>,
}

impl Line {
    /// Adds the setting `name = value`. An argument that `command` does not know is added all the same, so that the
    /// command's parser refuses it in its own words.
    ///
    /// # Errors
    /// A kind of value that no argument takes, said in words.
    pub(super) fn add(&mut self, command: &clap::Command, name: &str, value: &Value) -> Result<(), String> {
        let argument = Argument::find(command, name);
        match (argument, value) {
            // Not even what would follow from the folder.
            (_, Value::Array(values)) if values.is_empty() => {}
            (Some(Argument::Positional(at)), value) => self.positionals.push((at, texts(value)?)),
            (Some(Argument::Flag) | None, Value::Boolean(true)) => self.options.push(format!("--{name}")),
            (Some(Argument::Flag), Value::Boolean(false)) => {}
            (Some(Argument::Flag), other) => {
                return Err(format!("it is a switch: expected `true` or `false`, found `{other}`"));
            }
            (Some(Argument::Option { .. }), Value::Boolean(_)) => {
                return Err("it takes a value, and is no switch".to_owned());
            }
            (Some(Argument::Option { repeats: false }), value) => {
                self.options.push(format!("--{name}={}", texts(value)?.join(",")));
            }
            (Some(Argument::Option { repeats: true }) | None, value) => {
                self.options.extend(texts(value)?.iter().map(|text| format!("--{name}={text}")));
            }
        }
        Ok(())
    }

    /// `words`, then the options in the order in which they came, then the positional arguments.
    pub(super) fn finish(mut self, words: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        all.append(&mut self.options);
        self.positionals.sort_by_key(|(at, _)| *at);
        let mut positionals: Vec<String> = self.positionals.into_iter().flat_map(|(_, texts)| texts).collect();
        if positionals.iter().any(|text| text.starts_with('-')) {
            all.push("--".to_owned());
        }
        all.append(&mut positionals);
        all
    }
}

/// A value as the texts that a command line has for it: a list has several.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(number) => Ok(vec![number.to_string()]),
        Value::Float(number) => Ok(vec![number.to_string()]),
        Value::Array(values) => {
            let mut all = vec![];
            for value in values {
                match value {
                    Value::Array(_) => return Err("a list within a list".to_owned()),
                    value => all.append(&mut texts(value)?),
                }
            }
            Ok(all)
        }
        Value::Boolean(_) => Err("a switch where a text or a number is expected".to_owned()),
        Value::Table(_) => Err("a table where a text or a number is expected".to_owned()),
        Value::Datetime(_) => Err("a date where a text or a number is expected: put quotes around it".to_owned()),
    }
}

/// A command line for the eye, which a POSIX shell would read alike.
pub(crate) fn shown(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    fn command() -> Command {
        let argument = |name: &'static str, action| Arg::new(name).long(name).action(action);
        Command::new("x")
            .arg(argument("steps", ArgAction::Set))
            .arg(argument("prompt", ArgAction::Append))
            .arg(argument("json", ArgAction::SetTrue))
            .arg(Arg::new("audio_folder").action(ArgAction::Set))
    }

    fn line(text: &str) -> Result<Vec<String>, String> {
        let table: toml::Table = text.parse().unwrap();
        let mut line = Line::default();
        for (name, value) in &table {
            line.add(&command(), name, value)?;
        }
        Ok(line.finish(&["x"]))
    }

    #[test]
    fn settings_become_arguments() {
        let text = "audio-folder = 'a b'\njson = true\nprompt = ['one, two', '-3']\nsteps = [5, 1.5]";
        assert_eq!(line(text).unwrap(), ["x", "--json", "--prompt=one, two", "--prompt=-3", "--steps=5,1.5", "a b"]);
        assert_eq!(line("json = false\nsteps = []").unwrap(), ["x"]);
        assert_eq!(line("audio-folder = '-x'").unwrap(), ["x", "--", "-x"]);
        assert_eq!(line("stepz = 3\nfast = true").unwrap(), ["x", "--fast", "--stepz=3"], "left to the parser");
    }

    #[test]
    fn kinds_that_do_not_fit_are_said() {
        assert!(line("json = 1").unwrap_err().contains("switch"));
        assert!(line("steps = true").unwrap_err().contains("takes a value"));
        assert!(line("steps = [[1]]").unwrap_err().contains("list within a list"));
        assert!(line("steps = {a = 1}").unwrap_err().contains("table"));
        assert!(line("steps = 2026-01-01").unwrap_err().contains("date"));
    }

    #[test]
    fn a_shell_reads_what_is_shown() {
        let words = ["--a=b,c", "it's", "", "x y"].map(str::to_owned);
        assert_eq!(shown(&words), r"--a=b,c 'it'\''s' '' 'x y'");
    }
}
