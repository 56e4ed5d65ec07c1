//! The same music on every device of this machine.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use tonoscope::prelude::*;

fn main() -> tonoscope::Result<()> {
    let mut first = None;
    for info in Device::list() {
        let name = info.name.to_string();
        let model = MusicGen::builder("musicgen-nano").device(name.as_str())?.load()?;
        let music = model.generate("a slow piano melody").seconds(0.5).greedy().run()?;
        let same = first.get_or_insert_with(|| music.codes().to_vec()) == music.codes();
        println!("{name} ({}): the codes are {}", info.adapter, if same { "the same" } else { "other ones" });
    }
    if let Err(error) = MusicGen::builder("musicgen-nano").device("no-such-device") {
        println!("{error:?}");
    }
    Ok(())
}
