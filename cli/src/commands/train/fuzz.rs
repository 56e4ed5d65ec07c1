//! Files of settings of `train`, mutated.

use tonoscope_tests::fuzz::check;

use super::settings::Settings;

#[test]
fn settings() {
    let seeds = [
        &include_bytes!("../../../../data/training/codec.toml")[..],
        include_bytes!("../../../../data/training/autoencoder.toml"),
        include_bytes!("../../../../data/training/clap.toml"),
        include_bytes!("../../../../data/training/diffusion.toml"),
        include_bytes!("../../../../data/training/musicgen.toml"),
        include_bytes!("../../../../data/training/tagger.toml"),
    ]
    .map(<[u8]>::to_vec);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    check("train_settings", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        drop(Settings::read(&path));
    });
}
