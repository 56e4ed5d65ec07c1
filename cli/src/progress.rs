//! Progress on stderr: what is done, how fast, and how long it will take. Silent where stderr is no terminal.

use std::collections::HashMap;

use indicatif::{ProgressBar, ProgressStyle};
use tonoscope_hub::{Event, Progress};

use crate::{
    interrupt,
    terminal::{on_one_line, shown},
};

/// Something that the user should know, though it stops nothing.
pub(crate) fn note(text: &str) {
    crate::terminal::complain(&format!("note: {text}"));
}

/// A bar that counts `unit`s.
pub(crate) fn steps(total: u64, message: &str, unit: &str) -> ProgressBar {
    let template = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit} {{per_sec}} ETA {{eta}}");
    styled(total, &template).with_message(on_one_line(message))
}

/// A bar that counts bytes.
pub(crate) fn bytes(total: u64, message: &str) -> ProgressBar {
    styled(total, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}").with_message(on_one_line(message))
}

/// A sign of life for what cannot be counted.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(on_one_line(message));
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

fn styled(total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style.progress_chars("━╸ "))
}

/// Shows a download or a check of files.
pub(crate) struct Transfer {
    bar: ProgressBar,
    done: HashMap<String, u64>,
}

impl Transfer {
    pub(crate) fn new() -> Self {
        Self { bar: bytes(0, ""), done: HashMap::new() }
    }

    fn advance(&mut self, file: &str, done: u64) {
        self.done.insert(file.to_owned(), done);
        self.bar.set_position(self.done.values().sum());
    }
}

impl Progress for Transfer {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::Planned { bytes, .. } => self.bar.set_length(bytes),
            Event::Started { file, resumed, .. } => {
                self.bar.set_message(on_one_line(file));
                self.advance(file, resumed);
            }
            Event::Advanced { file, done, .. } => self.advance(file, done),
            Event::Hashed { file, done, size } => {
                self.bar.set_message(on_one_line(&format!("checking {file}")));
                self.bar.set_length(size);
                self.bar.set_position(done);
            }
            Event::Waiting { file } => {
                self.bar.println(shown(&format!("waiting for another process that writes {file}")));
            }
            Event::Retrying { file, attempt, wait, error } => {
                let text = format!("{file}: {error}; attempt {attempt} in {} s", wait.as_secs());
                self.bar.println(shown(&text));
            }
            Event::Finished { .. } => {}
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::asked()
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
