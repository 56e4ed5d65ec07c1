//! Players with pictures, grouped by prompt.

use std::{
    fmt::Write,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::Result;
use tonoscope_core::audio::{SoundFormat, WavFormat, Waveform};

use super::{
    folder::Clip,
    markup::{data, escaped, notice_box},
    sound,
};

/// How much audio may still be embedded.
#[derive(Debug)]
pub(super) struct Budget {
    /// Folder of the page.
    beside: PathBuf,
    most: u64,
    left: u64,
    embedded: usize,
    linked: usize,
}

impl Budget {
    pub(super) fn new(beside: &Path, most: u64) -> Self {
        Self { beside: beside.to_owned(), most, left: most, embedded: 0, linked: 0 }
    }

    /// Whether a file of `bytes` bytes is embedded; those after the first that is not may still be, if they are smaller.
    fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if bytes > self.left {
            self.linked += 1;
            return false;
        }
        self.left -= bytes;
        self.embedded += 1;
        true
    }

    /// What the page says about sounds that it does not hold.
    pub(super) fn notice(&self) -> String {
        if self.linked == 0 {
            return String::new();
        }
        notice_box(&format!(
            "{} of {} sounds are not in this page but linked, since together they have more than {:.0} MB (--max-audio-mb); the \
             links work while the page lies where it was written.",
            self.linked,
            self.linked + self.embedded,
            self.most as f64 / 1e6
        ))
    }
}

/// The sounds of a folder, those of one prompt together.
pub(super) fn section(clips: &[Clip], budget: &mut Budget) -> Result<String> {
    let mut prompts: Vec<(&str, Vec<&Clip>)> = vec![];
    for clip in clips {
        match prompts.iter_mut().find(|(prompt, _)| *prompt == clip.prompt) {
            Some((_, clips)) => clips.push(clip),
            None => prompts.push((&clip.prompt, vec![clip])),
        }
    }
    let mut html = String::new();
    for (prompt, clips) in prompts {
        let shown = if prompt.is_empty() { "(no prompt)" } else { prompt };
        let _ = writeln!(html, "<section class=\"card\"><h4>{}</h4>", escaped(shown));
        if clips.len() > 1 {
            html.push_str(&slider(clips.len(), shown));
        }
        for clip in clips {
            html.push_str(&player(clip, budget)?);
        }
        html.push_str("</section>\n");
    }
    Ok(html)
}

/// What changes between the clips of a prompt. Hidden until the script shows it: without one, all clips are there.
fn slider(count: usize, prompt: &str) -> String {
    format!(
        "<div class=\"compare\" hidden><label>Change the sound, keep the place \
         <input type=\"range\" min=\"0\" max=\"{}\" step=\"1\" value=\"0\" aria-label=\"Sound of: {}\"></label>\n\
         <output aria-live=\"polite\"></output>\n<div><button type=\"button\">Play</button>\
         <button type=\"button\" disabled title=\"Back to the sound before, at the same place\">A/B</button>\
         <button type=\"button\" aria-pressed=\"false\">Show all</button></div></div>\n",
        count - 1,
        escaped(prompt)
    )
}

fn name(clip: &Clip) -> String {
    // A label often says its group again: `layer 3` and `layer 3 of 24`.
    let group = if clip.label.starts_with(&clip.group) { "" } else { clip.group.as_str() };
    let parts = [group, clip.label.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { clip.file.clone() } else { parts.join(" · ") }
}

fn player(clip: &Clip, budget: &mut Budget) -> Result<String> {
    let shown = escaped(&name(clip));
    let mut html = format!("<figure class=\"clip\" data-name=\"{shown}\"><figcaption><strong>{shown}</strong>");
    let bytes = match fs::read(&clip.path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let notice = notice_box(&format!("`{}` cannot be read: {error}", clip.file));
            return Ok(format!("{html}</figcaption>{notice}</figure>\n"));
        }
    };
    let wave = match Waveform::decode(&bytes) {
        Ok(wave) => wave,
        Err(error) => {
            let notice = notice_box(&format!("`{}` cannot be shown: {error}", clip.file));
            return Ok(format!("{html}</figcaption>{notice}</figure>\n"));
        }
    };
    let seconds = wave.samples() as f64 / f64::from(wave.sample_rate());
    let channels = match wave.channels().len() {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        channels => format!("{channels} channels"),
    };
    let rate = f64::from(wave.sample_rate()) / 1000.0;
    let details = if clip.details.is_empty() { String::new() } else { format!(" · {}", escaped(&clip.details)) };
    let _ =
        writeln!(html, " <span class=\"soft\">{seconds:.2} s · {rate} kHz · {channels}{details}</span></figcaption>");
    let (path, columns) = sound::outline(&wave);
    let _ = writeln!(
        html,
        "<div class=\"picture\"><svg viewBox=\"0 0 {columns} 2\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Waveform\"><path d=\"{path}\"/></svg>"
    );
    if budget.take(bytes.len()) {
        let picture = data("image/png", &sound::spectrogram(&wave)?);
        let _ = write!(
            html,
            "<div class=\"spectrogram\"><img src=\"{picture}\" loading=\"lazy\" \
             alt=\"Spectrogram, 50 Hz to 16 kHz on a logarithmic scale, 80 dB from dark to light\">\
             <span class=\"f10000\">10 kHz</span><span class=\"f1000\">1 kHz</span><span class=\"f100\">100 Hz</span></div></div>\n\
             <audio controls preload=\"metadata\" src=\"{}\" aria-label=\"{shown}\"></audio>",
            playable(&bytes, &wave)?
        );
    } else {
        let link = escaped(&link(&budget.beside, &clip.path));
        let _ = write!(html, "</div>\n<p><a href=\"{link}\">{}</a> (linked)</p>", escaped(&clip.file));
    }
    Ok(html + "</figure>\n")
}

/// The content of a sound file as browsers play it.
fn playable(bytes: &[u8], wave: &Waveform) -> Result<String> {
    match SoundFormat::of(bytes)?.media_type() {
        Some(media_type) => Ok(data(media_type, bytes)),
        None => Ok(data("audio/wav", &wave.to_wav_bytes(WavFormat::Pcm16)?)),
    }
}

/// The address of `file` seen from a page in `folder`.
fn link(folder: &Path, file: &Path) -> String {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (folder, file) = (real(folder), real(file));
    let (from, to): (Vec<_>, Vec<_>) = (folder.components().collect(), file.components().collect());
    let common = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
    let up = from[common..].iter().map(|_| "..".to_owned());
    let down = to[common..].iter().filter_map(|part| match part {
        Component::Normal(name) => Some(percent(&name.to_string_lossy())),
        _ => None,
    });
    let path = up.chain(down).collect::<Vec<_>>().join("/");
    // Not to be taken for a scheme.
    format!("./{path}")
}

fn percent(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_start_from_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let sub = folder.path().join("run 1");
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("a#1.wav"), b"").unwrap();
        assert_eq!(link(folder.path(), &sub.join("a#1.wav")), "./run%201/a%231.wav");
        assert_eq!(link(&sub, &sub.join("a#1.wav")), "./a%231.wav");
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        assert_eq!(link(&other, &sub.join("a#1.wav")), "./../run%201/a%231.wav");
    }

    #[test]
    fn names_say_nothing_twice() {
        let name = |group: &str, label: &str| {
            let [file, group, label] = ["a.wav", group, label].map(str::to_owned);
            name(&Clip { file, group, label, prompt: String::new(), details: String::new(), path: PathBuf::new() })
        };
        assert_eq!(name("layer 3", "layer 3 of 24"), "layer 3 of 24");
        assert_eq!(name("clean", "without intervention"), "clean · without intervention");
        assert_eq!((name("clean", ""), name("", "")), ("clean".to_owned(), "a.wav".to_owned()));
    }

    #[test]
    fn the_budget_is_kept() {
        let mut budget = Budget::new(Path::new("."), 100);
        assert!(budget.take(60) && !budget.take(50) && budget.take(40) && !budget.take(1));
        assert!(budget.notice().contains("2 of 4 sounds"));
        assert!(Budget::new(Path::new("."), 0).notice().is_empty());
    }
}
