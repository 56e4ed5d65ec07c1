//! Files of `torch.save`.

use tonoscope_core::{
    checkpoint::{PyTorchFile, Source, read_torch_tensor},
    models::musicgen::MusicgenFiles,
};
use tonoscope_tests::fuzz::{check, zip, zip_entry};

use super::fixture;

const TENSORS: [&str; 6] = [
    "bare_tensors/double.pt",
    "bare_tensors/tensor_embeddings.pt",
    "bare_tensors/view.pt",
    "embeddings_pt/plain.pt",
    "embeddings_pt/strided.pt",
    "embeddings_pt/whole_numbers.pt",
];
const OTHERS: [&str; 6] = [
    "bare_tensors/list.pt",
    "bare_tensors/smuggled.pt",
    "bare_tensors/legacy.pt",
    "embeddings_pt/dictionary.pt",
    "checkpoints_tiny/expanded.pt",
    "checkpoints_tiny/pretrained.bin",
];

fn files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fixture(name)).collect()
}

/// The pickles inside archives.
fn pickles() -> Vec<Vec<u8>> {
    files(&TENSORS).iter().chain(&files(&OTHERS)).filter_map(|file| zip_entry(file, "data.pkl")).collect()
}

/// An archive with this pickle and the bytes of some tensors.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let storage = [0; 256];
    zip(&[("x/data.pkl", pickle), ("x/data/0", &storage), ("x/data/1", &storage), ("x/version", b"3\n")])
}

/// A file that the reader of checkpoints opens.
struct OnDisk(tempfile::TempDir);

impl OnDisk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn read(&self, bytes: &[u8]) {
        let path = self.0.path().join("x.bin");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(file) = PyTorchFile::open(&path) {
            for name in file.names() {
                drop(file.shape(&name));
                drop(file.read(&name));
            }
        }
    }
}

#[test]
fn tensors() {
    let all = [files(&TENSORS), files(&OTHERS)].concat();
    check("torch_tensor", &all, |bytes| drop(read_torch_tensor(bytes)));
}

#[test]
fn pickles_of_tensors() {
    assert!(read_torch_tensor(&archive(&pickles()[0])).is_ok(), "the seeds reach the pickle");
    check("torch_tensor_pickle", &pickles(), |bytes| drop(read_torch_tensor(&archive(bytes))));
}

#[test]
fn checkpoints() {
    let all = [files(&TENSORS), files(&OTHERS)].concat();
    let disk = OnDisk::new();
    check("pytorch", &all, |bytes| disk.read(bytes));
}

#[test]
fn pickles_of_checkpoints() {
    let disk = OnDisk::new();
    check("pytorch_pickle", &pickles(), |bytes| {
        disk.read(&archive(bytes));
        disk.read(bytes);
    });
}

/// The text under `xp.cfg` of an audiocraft checkpoint.
fn xp_cfg(file: &str) -> Vec<u8> {
    let pickle = zip_entry(&fixture(file), "data.pkl").unwrap();
    let at = pickle.windows(6).position(|six| six == b"xp.cfg").unwrap() + 6;
    let text = at + pickle[at..].iter().position(|&byte| byte == b'X').unwrap();
    let length = u32::from_le_bytes(pickle[text + 1..text + 5].try_into().unwrap()) as usize;
    pickle[text + 5..text + 5 + length].to_vec()
}

#[test]
fn xp_cfg_of_audiocraft() {
    let folder = tempfile::tempdir().unwrap();
    let t5 = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/t5_tiny");
    let [lm, codec] = ["state_dict.bin", "compression_state_dict.bin"];
    let seeds = [lm, codec].map(|name| xp_cfg(&format!("musicgen_tiny_audiocraft/{name}")));
    let pickle = |yaml: &[u8]| {
        let text = |text: &[u8]| [b"X", &(text.len() as u32).to_le_bytes()[..], text].concat();
        archive(&[b"\x80\x02}(", &text(b"xp.cfg")[..], &text(yaml), &text(b"best_state"), b"}u."].concat())
    };
    check("xp_cfg", &seeds, |bytes| {
        // Either text in the place of the other is an error; both come first and second.
        for (first, second) in [(bytes, &seeds[1][..]), (&seeds[0], bytes)] {
            std::fs::write(folder.path().join(lm), pickle(first)).unwrap();
            std::fs::write(folder.path().join(codec), pickle(second)).unwrap();
            drop(MusicgenFiles::published_codec(folder.path()));
            drop(MusicgenFiles::open(folder.path(), Some(&t5)));
        }
    });
}
