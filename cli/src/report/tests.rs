use std::{fs, path::Path};

use serde_json::json;
use tonoscope_core::audio::{WavFormat, Waveform};

use super::*;

/// A second is 8000 samples.
fn wav(samples: usize) -> Vec<u8> {
    let samples = (0..samples).map(|i| 0.5 * (i as f32 * 0.3).sin()).collect();
    Waveform::new(vec![samples], 8000).unwrap().to_wav_bytes(WavFormat::Pcm16).unwrap()
}

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder as `lens` writes it.
fn lens() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let record = json!({"command": "lens", "version": "0.1.0", "settings": {"mode": "early-exit", "layers": [1, 24]}});
    put(folder.path(), "run.json", record.to_string());
    put(folder.path(), "ndcg.csv", "layer,concept,mean\n1,guitar,0.25\n24,guitar,0.75\n");
    put(folder.path(), "figures/ndcg.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>");
    put(folder.path(), "figures/ndcg.png", b"\x89PNG");
    put(folder.path(), "figures/ndcg.csv", "x,y\n1,2\n");
    put(folder.path(), "figures/plane.gif", b"GIF89a");
    put(folder.path(), "figures/ndcg.txt", "Recognisability <per> layer.");
    put(folder.path(), "audio/layer_01.wav", wav(4000));
    put(folder.path(), "audio/layer_24.wav", wav(2000));
    let audio = "file,group,label,prompt,details\naudio/layer_01.wav,layer 1,,a happy piece,\n\
                 audio/layer_24.wav,layer 24,whole model,a happy piece,seed 0\n";
    put(folder.path(), "audio.csv", audio);
    folder
}

fn page(folder: &Path) -> String {
    super::page(&[folder.to_owned()], folder, 1_000_000).unwrap().html
}

fn refused(folder: &Path) -> String {
    format!("{:#}", super::page(&[folder.to_owned()], folder, 1_000_000).unwrap_err())
}

#[test]
fn all_that_a_folder_holds_is_on_the_page() {
    let folder = lens();
    let page = page(folder.path());
    for expected in [
        "early-exit",
        "ndcg.csv",
        "<td class=\"number\">0.75</td>",
        "Recognisability &lt;per&gt; layer.",
        "download=\"ndcg.png\"",
        "download=\"plane.gif\"",
        "data-name=\"layer 24 · whole model\"",
        "0.25 s · 8 kHz · mono · seed 0",
        "<h4>a happy piece</h4>",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert_eq!(page.matches("src=\"data:audio/wav;base64,").count(), 2);
    assert_eq!(page.matches("<h4>").count(), 1);
}

#[test]
fn the_page_loads_nothing() {
    let folder = lens();
    let page = page(folder.path());
    assert!(page.contains("content=\"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-"));
    assert!(!page.contains("<script>alert") && page.matches("<script>").count() == 1);
    let outside = |attribute: &str| {
        page.match_indices(attribute).any(|(at, _)| !page[at + attribute.len()..].starts_with("data:"))
    };
    assert!(!outside("src=\""));
    for (at, _) in page.match_indices("href=\"") {
        assert!(page[at + 6..].starts_with("data:") || page[at + 6..].starts_with('#'), "{}", &page[at..at + 40]);
    }
    // The hash in the policy is that of the style that is there.
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(page.contains(&STANDARD.encode(Sha256::digest(style.as_bytes()))));
}

#[test]
fn text_of_files_is_never_markup() {
    let folder = lens();
    let bad = "<img src=x onerror=alert(1)>\"'";
    put(folder.path(), "run.json", json!({"command": bad, "settings": {bad: bad}}).to_string());
    let quoted = format!("\"{}\"", bad.replace('"', "\"\""));
    put(folder.path(), "bad.csv", format!("{quoted},b\n{quoted},1\n"));
    put(folder.path(), "figures/ndcg.txt", bad);
    put(
        folder.path(),
        "audio.csv",
        format!("file,group,label,prompt,details\naudio/layer_01.wav,{quoted},{quoted},{quoted},{quoted}\n"),
    );
    let page = page(folder.path());
    assert!(!page.contains("<img src=x"), "markup of a file");
    assert!(page.matches("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;").count() > 8);
}

#[test]
fn no_path_leads_out_of_the_folder() {
    for path in ["../secret.wav", "/etc/passwd", "a/../../secret.wav", "", "..", r"..\secret.wav"] {
        let folder = lens();
        put(folder.path(), "audio.csv", format!("file,group,label,prompt,details\n\"{path}\",,,,\n"));
        let told = refused(folder.path());
        assert!(told.contains("is not a path inside the folder"), "{path}: {told}");
    }
    let folder = lens();
    fs::remove_file(folder.path().join("audio.csv")).unwrap();
    put(folder.path(), "run.json", json!({"pieces": [{"audio": "../x.wav", "prompt": "p"}]}).to_string());
    assert!(refused(folder.path()).contains("`../x.wav` is not a path inside the folder"));
}

#[cfg(unix)]
#[test]
fn no_link_leads_out_of_the_folder() {
    let (folder, other) = (lens(), tempfile::tempdir().unwrap());
    put(other.path(), "secret.wav", wav(800));
    std::os::unix::fs::symlink(other.path().join("secret.wav"), folder.path().join("audio/link.wav")).unwrap();
    put(folder.path(), "audio.csv", "file,group,label,prompt,details\naudio/link.wav,,,,\n");
    assert!(refused(folder.path()).contains("`audio/link.wav` leads out of the folder"));
}

#[cfg(unix)]
#[test]
fn tables_figures_captions_and_data_behind_links_that_lead_out_are_left_out() {
    let (folder, other) = (lens(), tempfile::tempdir().unwrap());
    put(other.path(), "secret", "<SECRET,b\n1,2\n");
    for link in ["t.csv", "figures/other.svg", "figures/ndcg.txt", "figures/plane.csv", "figures/plane.png"] {
        let link = folder.path().join(link);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(other.path().join("secret"), link).unwrap();
    }
    let shown = page(folder.path());
    assert!(!shown.contains("SECRET") && !shown.contains(&STANDARD.encode("<SECRET,b\n1,2\n")));
    for notice in [
        "table left out: `t.csv`: `t.csv` leads out of the folder",
        "figure left out: `other.svg`: `figures/other.svg` leads out of the folder",
        "figure left out: `ndcg.txt`: `figures/ndcg.txt` leads out of the folder",
    ] {
        assert!(shown.contains(notice), "{notice}");
    }
    // A link that stays inside is followed.
    fs::remove_file(folder.path().join("t.csv")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("ndcg.csv"), folder.path().join("t.csv")).unwrap();
    assert!(page(folder.path()).contains("t.csv <span"));
    // The record, the table of sounds, and the whole folder of figures.
    for name in ["run.json", "audio.csv"] {
        let folder = lens();
        fs::rename(folder.path().join(name), other.path().join(name)).unwrap();
        std::os::unix::fs::symlink(other.path().join(name), folder.path().join(name)).unwrap();
        assert!(refused(folder.path()).contains(&format!("`{name}` leads out of the folder")), "{name}");
    }
    let folder = lens();
    fs::rename(folder.path().join("figures"), other.path().join("figures")).unwrap();
    std::os::unix::fs::symlink(other.path().join("figures"), folder.path().join("figures")).unwrap();
    assert!(page(folder.path()).contains("figures left out: `figures` leads out of the folder"));
}

#[test]
fn what_is_damaged_is_named() {
    let folder = lens();
    put(folder.path(), "ragged.csv", "a,b\n1\n");
    put(folder.path(), "bytes.csv", b"a,b\n\xff\xfe,1\n");
    put(folder.path(), "empty.csv", "");
    put(folder.path(), "figures/bad.svg", b"\x00\x01");
    put(folder.path(), "audio/layer_01.wav", b"RIFF");
    fs::remove_file(folder.path().join("audio/layer_24.wav")).unwrap();
    let page = page(folder.path());
    for expected in [
        "table left out: `ragged.csv`",
        "table left out: `bytes.csv`",
        "table left out: `empty.csv`",
        "figure left out: `bad.svg` is not an SVG file",
        "`audio/layer_01.wav` cannot be shown: not a WAV file",
        "`audio/layer_24.wav` cannot be read",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(page.contains("ndcg.csv"), "what is whole is still there");
    put(folder.path(), "audio.csv", "name\nx\n");
    assert!(refused(folder.path()).contains("audio.csv` is damaged"));
    put(folder.path(), "run.json", "[1, 2]");
    assert!(refused(folder.path()).contains("run.json` is damaged"));
    fs::remove_file(folder.path().join("run.json")).unwrap();
    assert!(refused(folder.path()).contains("no folder of results"));
}

#[test]
fn beyond_the_budget_sounds_are_linked() {
    let folder = lens();
    let page = super::page(&[folder.path().to_owned()], folder.path(), 5000).unwrap().html;
    // 0.5 s are 8044 bytes, 0.25 s are 4044.
    assert_eq!(page.matches("src=\"data:audio/wav;base64,").count(), 1);
    assert!(page.contains("<a href=\"./audio/layer_01.wav\">audio/layer_01.wav</a> (linked)"));
    assert!(page.contains("1 of 2 sounds are not in this page"));
}

#[test]
fn long_tables_are_cut_and_pieces_are_played() {
    let folder = tempfile::tempdir().unwrap();
    let pieces =
        json!({"version": "0.1.0", "pieces": [{"audio": "piece_0000.wav", "prompt": "slow jazz", "sample": 0}]});
    put(folder.path(), "run.json", pieces.to_string());
    put(folder.path(), "piece_0000.wav", wav(800));
    put(folder.path(), "long.csv", (0..300).fold("n\n".to_owned(), |text, n| format!("{text}{n}\n")));
    let page = page(folder.path());
    assert!(page.contains("the first 200 of 300 rows") && page.contains(">199</td>") && !page.contains(">200</td>"));
    assert!(page.contains("<h4>slow jazz</h4>") && page.contains("data-name=\"sample 0 · piece_0000.wav\""));
    assert!(!page.contains("class=\"compare\""), "one sound has nothing to be compared with");
}
