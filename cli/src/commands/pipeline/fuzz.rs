//! Files of settings of `pipeline`, mutated.

use tonoscope_tests::fuzz::check;

use super::{file::PipelineFile, step::STEPS};
use crate::job::JobArgs;

#[test]
fn pipelines() {
    let seeds = [
        include_bytes!("../../../../data/pipeline.toml").to_vec(),
        b"folder = 'run'\ndevice = 'cpu'\n[diffuse]\nsteps = 7\nprompts = 'mine.txt'\n[probe]\nseed = 1\n".to_vec(),
    ];
    check("pipeline", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(file) = PipelineFile::parse(std::path::Path::new("p.toml"), &text) {
            for step in STEPS {
                drop(file.plan(step, &JobArgs::default()));
            }
        }
    });
}
