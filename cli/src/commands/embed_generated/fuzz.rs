//! Mutated tables of generated files.

use tonoscope_tests::fuzz::check;

use super::source::from_info;

#[test]
fn tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audio_info.csv");
    let seed =
        b"prompt_index,sample_index,prompt,diffusion_step\n0,0,\"a, guitar\",10\n0,1,\"a, guitar\",10\n1,0,b,20\n"
            .to_vec();
    check("generated_info", &[seed], |bytes| {
        std::fs::write(&path, bytes).unwrap();
        drop(from_info(&path));
    });
}
