//! Games' archives of scores, mutated.

use tonoscope_core::corpus::Score;
use tonoscope_tests::fuzz::check;

use super::scores::scores;

#[test]
fn wads() {
    let seed = [
        &b"IWAD\x02\0\0\0\x1a\0\0\0MThd\0\0\0\x06xxxx"[..],
        b"\x0c\0\0\0\x0a\0\0\0D_E1M1\0\0\x16\0\0\0\x04\0\0\0PLAYPAL\0",
    ]
    .concat();
    let folder = tempfile::tempdir().unwrap();
    check("wad", &[seed], |bytes| {
        std::fs::write(folder.path().join("x.wad"), bytes).unwrap();
        for (_, lump) in scores(folder.path()).into_iter().flatten() {
            drop(Score::parse(&lump));
        }
    });
}
