//! What the steps are: which command each is, and where its files lie within the folder of a pipeline.

use clap::CommandFactory;

use crate::Cli;

/// One command of the pipeline.
#[derive(Debug)]
pub(super) struct Step {
    /// 1 to 6; the first step is two commands.
    pub(super) number: u8,
    /// Its table in the file.
    pub(super) table: &'static str,
    /// The words of its command.
    pub(super) words: &'static [&'static str],
    /// Arguments that name what it reads, and where that lies unless the file says otherwise.
    pub(super) takes: &'static [(&'static str, &'static str)],
    /// Arguments that name what it writes.
    pub(super) makes: &'static [(&'static str, &'static str)],
}

/// All of them, in order.
pub(super) const STEPS: &[Step] = &[
    Step { number: 1, table: "prompts", words: &["prompts", "generate"], takes: &[], makes: &[("out", "prompts.txt")] },
    Step {
        number: 1,
        table: "annotate",
        words: &["prompts", "annotate"],
        takes: &[("prompts", "prompts.txt")],
        makes: &[("out", "annotations.json")],
    },
    Step {
        number: 2,
        table: "diffuse",
        words: &["diffuse"],
        takes: &[("prompts", "prompts.txt"), ("annotations", "annotations.json")],
        makes: &[("out", "generated")],
    },
    Step {
        number: 3,
        table: "embed-generated",
        words: &["embed-generated"],
        takes: &[("generated", "generated")],
        makes: &[("out", "embeddings")],
    },
    Step { number: 4, table: "concepts", words: &["concepts", "build"], takes: &[], makes: &[("out", "concepts")] },
    Step {
        number: 5,
        table: "concepts-embed",
        words: &["concepts", "embed"],
        takes: &[("folder", "concepts")],
        makes: &[("out", "concepts")],
    },
    Step {
        number: 6,
        table: "probe",
        words: &["probe"],
        takes: &[("concepts", "concepts"), ("embeddings", "embeddings"), ("annotations", "annotations.json")],
        makes: &[("out", "probe")],
    },
];

impl Step {
    /// For messages: `step 2, diffuse`.
    pub(super) fn title(&self) -> String {
        format!("step {}, {}", self.number, self.table)
    }

    /// What the command line knows of its command.
    ///
    /// # Panics
    /// If there is no such command: a bug, which a test finds.
    pub(super) fn command(&self) -> clap::Command {
        let mut command = Cli::command();
        // Makes `get_arguments` complete, global arguments included.
        command.build();
        self.words.iter().fold(command, |command, word| {
            command.find_subcommand(word).unwrap_or_else(|| panic!("no command `{word}`")).clone()
        })
    }

    /// Whether an array of jobs can share its work.
    pub(super) fn splits(&self) -> bool {
        self.command().get_arguments().any(|argument| argument.get_long() == Some("job-index"))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::argv::Argument, *};

    #[test]
    fn every_step_is_a_command_with_the_arguments_that_are_given_to_it() {
        for step in STEPS {
            let command = step.command();
            for (name, _) in step.takes.iter().chain(step.makes) {
                assert!(Argument::find(&command, name).is_some(), "{}: no argument `{name}`", step.title());
            }
        }
        let splits: Vec<&str> = STEPS.iter().filter(|step| step.splits()).map(|step| step.table).collect();
        assert_eq!(splits, ["diffuse", "embed-generated", "concepts-embed", "probe"]);
    }
}
