//! Archives of notes: unpacked whole, fetched in pieces, and refused without a trace where they are not what they seem.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::{command, concepts::examples, says, stderr, stdout};

/// An entry of a tar file, whatever its name is.
fn entry(name: &str, kind: EntryType, link: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, EntryType::Regular, "", content.len() as u64, content)
}

fn gzipped(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// An archive of some entries, with its end.
fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    gzipped(&[entries.concat(), vec![0; 1024]].concat())
}

/// An archive as `tar` makes it.
fn good() -> Vec<u8> {
    let mut builder = Builder::new(vec![]);
    let notes = examples(12, false);
    let notes = notes.as_str().unwrap();
    for (name, content) in [("nsynth-test/examples.json", notes), ("nsynth-test/audio/a.wav", "no sound")] {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    gzipped(&builder.into_inner().unwrap())
}

/// Every path below `folder`, sorted.
fn listed(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path.clone());
            }
            found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// Builds concepts of an archive inside `folder`.
fn build(folder: &Path, more: &[&str]) -> (i32, String) {
    let [notes, out] = ["notes", "out"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    let args = [&["concepts", "build", "--notes", &notes, "--out", &out][..], more].concat();
    let output = command(&args).env_remove("HF_HUB_OFFLINE").output().unwrap();
    if !output.status.success() {
        assert_eq!(stdout(&output), "");
    }
    (output.status.code().unwrap(), stderr(&output))
}

#[test]
fn an_archive_is_unpacked_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nsynth-test.jsonwav.tar.gz");
    fs::write(&path, good()).unwrap();
    let args = ["--archive", path.to_str().unwrap()];
    let (status, said) = build(folder.path(), &args);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("2 files were unpacked"), "{said}");
    let unpacked = listed(&folder.path().join("notes"));
    assert_eq!(unpacked, ["nsynth-test", "nsynth-test/audio", "nsynth-test/audio/a.wav", "nsynth-test/examples.json"]);
    assert!(folder.path().join("out/is_flute.csv").is_file());
    let (status, said) = build(folder.path(), &args);
    assert!(status == 0 && said.contains("is unpacked already"), "{said}");
}

#[test]
fn what_is_not_what_it_seems_leaves_no_trace() {
    let notes = || file("n/examples.json", examples(2, false).as_str().unwrap().as_bytes());
    let huge = 1 << 40;
    let pax = |text: &str| entry("pax", EntryType::XHeader, "", text.len() as u64, text.as_bytes());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("up", archive(&[notes(), file("n/../../x", b"x")]), "`n/../../x` leads out of the archive"),
        ("up first", archive(&[file("../x", b"x"), notes()]), "`../x` leads out of the archive"),
        (
            "absolute",
            archive(&[notes(), file("/tmp/tonoscope-x", b"x")]),
            "`/tmp/tonoscope-x` leads out of the archive",
        ),
        ("windows", archive(&[notes(), file("n\\..\\x", b"x")]), "holds characters that no name of `NSynth` has"),
        ("drive", archive(&[notes(), file("C:x", b"x")]), "holds characters that no name of `NSynth` has"),
        ("deep", archive(&[notes(), file("a/b/c/d/e/f/g", b"x")]), "lies too deep"),
        ("symlink", archive(&[notes(), entry("n/audio", EntryType::Symlink, "/tmp", 0, b"")]), "`n/audio` is a link"),
        ("hardlink", archive(&[notes(), entry("n/x", EntryType::Link, "/etc/passwd", 0, b"")]), "`n/x` is a link"),
        ("device", archive(&[notes(), entry("n/x", EntryType::Char, "", 0, b"")]), "`n/x` is a device"),
        ("fifo", archive(&[notes(), entry("n/x", EntryType::Fifo, "", 0, b"")]), "`n/x` is a device"),
        ("huge", archive(&[notes(), entry("n/x", EntryType::Regular, "", huge, b"x")]), "has 1099511627776 bytes"),
        ("short", archive(&[notes(), entry("n/x", EntryType::Regular, "", 1 << 20, b"x")]), "`n/x`"),
        ("twice", archive(&[notes(), notes()]), "`n/examples.json`"),
        (
            "long name",
            archive(&[entry("l", EntryType::GNULongName, "", 300, &[b'a'; 300]), notes()]),
            "a name too long",
        ),
        ("long name bomb", archive(&[entry("l", EntryType::GNULongName, "", huge, b"a"), notes()]), "a name too long"),
        ("pax path", archive(&[pax("13 path=../x\n"), notes()]), "an extended header changes `path`"),
        ("pax size", archive(&[pax("11 size=99\n"), notes()]), "an extended header changes `size`"),
        ("pax bomb", archive(&[entry("p", EntryType::XHeader, "", huge, b"a")]), "an extended header has"),
        ("empty", archive(&[]), "there is no file in it"),
        ("no gzip", b"PK\x03\x04 some other archive".to_vec(), "was not unpacked"),
        ("cut", good()[..good().len() - 60].to_vec(), "was not unpacked"),
        (
            "changed",
            {
                let mut bytes = good();
                let at = bytes.len() - 6;
                bytes[at] ^= 1;
                bytes
            },
            "was not unpacked",
        ),
        ("zeros", gzipped(&[notes(), vec![0; 40 << 20]].concat()), "more follows"),
    ];
    for (name, bytes, part) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        fs::write(&path, bytes).unwrap();
        let (status, said) = build(folder.path(), &["--archive", path.to_str().unwrap()]);
        says(&(status, said.clone()), 1, &[part]);
        assert_eq!(listed(folder.path()), ["a.tar.gz", "notes"], "{name}: {said}");
    }
    // Times that Python's `tarfile` writes are no harm.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tgz");
    fs::write(&path, archive(&[pax("20 mtime=1700000000.5\n"), notes()])).unwrap();
    let (status, said) = build(folder.path(), &["--archive", path.to_str().unwrap()]);
    assert_eq!(status, 0, "{said}");
}

/// Serves `content`; the first answer is cut after half of it. Returns its address and what it was asked.
fn server(content: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(vec![]));
    let heard = log.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut request).unwrap() > 2 {}
            let first = heard.lock().unwrap().is_empty();
            let from = request.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("range: bytes=")
                    .map(|rest| rest.trim_end_matches('-').parse::<usize>().unwrap())
            });
            heard.lock().unwrap().push(request);
            let size = content.len();
            let (status, range, from) = match from {
                Some(from) => {
                    ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1), from)
                }
                None => ("200 OK", String::new(), 0),
            };
            let length = size - from;
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"v1\"\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let body = if first { &content[..size / 2] } else { &content[from..] };
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
            stream.flush().unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read(&mut [0]);
        }
    });
    (address, log)
}

#[test]
fn a_fetch_that_is_cut_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (address, log) = server(good());
    let args = ["--fetch", "test", "--fetch-from", &address];
    let (status, said) = build(folder.path(), &args);
    assert_eq!(status, 0, "{said}");
    let log = log.lock().unwrap().clone();
    assert_eq!(log.len(), 2, "{log:?}");
    let second = log[1].to_ascii_lowercase();
    assert!(log[0].starts_with("GET /nsynth-test.jsonwav.tar.gz "), "{log:?}");
    assert!(
        second.contains(&format!("range: bytes={}-", good().len() / 2)) && second.contains("if-range: \"v1\""),
        "{second}"
    );
    assert!(!second.contains("authorization"), "{second}");
    let notes = listed(&folder.path().join("notes"));
    assert_eq!(notes[0..2], ["nsynth-test", "nsynth-test.jsonwav.tar.gz"], "{notes:?}");
    assert_eq!(notes.len(), 5, "{notes:?}");
    // Offline nothing is asked for, and what is here is used.
    let out = folder.path().join("again");
    let again = [
        "concepts",
        "build",
        "--notes",
        folder.path().join("notes").to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--fetch",
        "test",
    ]
    .map(str::to_owned);
    let output = command(&again.each_ref().map(String::as_str)).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let offline =
        command(&["concepts", "build", "--notes", out.to_str().unwrap(), "--fetch", "valid"]).output().unwrap();
    says(&(offline.status.code().unwrap(), stderr(&offline)), 1, &["offline mode is set"]);
}
