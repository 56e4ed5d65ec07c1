//! `--model` values and the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::*;

fn parse(text: &str) -> Result<ModelRef, NameError> {
    ModelRef::parse(text, None)
}

fn hub_ref(id: &str, revision: Option<&str>) -> ModelRef {
    ModelRef::Hub { id: HubId::parse(id).unwrap(), revision: revision.map(str::to_owned) }
}

#[test]
fn known_names_and_ids_are_hub_models() {
    for name in known_names().filter(|name| BuiltIn::named(name).is_none()) {
        let org = match name {
            name if name.contains("clap") => "laion",
            name if name.starts_with("stable-audio") => "stabilityai",
            _ => "facebook",
        };
        assert_eq!(parse(name).unwrap(), hub_ref(&format!("{org}/{name}"), None));
    }
    assert_eq!(parse("musicgen-small@v1.0").unwrap(), hub_ref("facebook/musicgen-small", Some("v1.0")));
    assert_eq!(parse("org/na.me_1@refs/pr/1").unwrap(), hub_ref("org/na.me_1", Some("refs/pr/1")));
    assert_eq!(parse("org/name@main").unwrap().to_string(), "org/name@main");
}

#[test]
fn unknown_name_offers_the_nearest() {
    let error = parse("musicgen-smal").unwrap_err();
    assert_eq!(error.to_string(), "no model is called `musicgen-smal`");
    assert_eq!(error.hint(), "did you mean `musicgen-small`?");
    assert_eq!(parse("MusicGen-Stereo-Large").unwrap_err().hint(), "did you mean `musicgen-stereo-large`?");
    assert!(parse("zzzz").unwrap_err().hint().starts_with("pass one of `musicgen-nano`,"));
}

#[test]
fn melody_is_refused_under_every_name() {
    for name in
        ["musicgen-melody", "facebook/musicgen-melody-large", "musicgen-stereo-melody", "facebook/musicgen-style"]
    {
        assert!(matches!(parse(name), Err(NameError::Unsupported { .. })), "{name}");
    }
}

#[test]
fn dangerous_ids_and_revisions_are_refused() {
    for id in ["a/b/c", "../b", "a/..", "a/.b", "a/b--c", "a/b c", "a/b?x", "a/", "a/b%2e", "a\\b/c"] {
        assert!(parse(id).is_err(), "{id}");
    }
    for revision in ["", "..", "a/../b", "/a", "a//b", "a b", "a?b", ".hidden", "-x", "a\\b"] {
        assert!(matches!(parse(&format!("a/b@{revision}")), Err(NameError::BadRevision { .. })), "{revision}");
    }
    assert_eq!(parse(" "), Err(NameError::Empty));
}

#[test]
fn folders_are_told_from_names() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().to_str().unwrap();
    assert_eq!(parse(text).unwrap(), ModelRef::Folder(folder.path().to_owned()));
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, "").unwrap();
    let error = parse(file.to_str().unwrap()).unwrap_err();
    assert_eq!(error, NameError::NotAFolder { path: file });
    assert!(error.hint().contains(text));
    assert!(matches!(parse("./not-there"), Err(NameError::NoFolder { .. })));
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let under_home = ModelRef::parse("~/models", Some(folder.path())).unwrap();
    assert_eq!(under_home, ModelRef::Folder(folder.path().join("models")));
}

fn from(variables: &[(&str, &str)]) -> Result<HubConfig, HubError> {
    let map: BTreeMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
    HubConfig::from_lookup(&|name| map.get(name).cloned())
}

#[test]
fn cache_is_found_in_the_usual_order() {
    let cache = |variables: &[(&str, &str)]| from(variables).unwrap().cache;
    assert_eq!(cache(&[("HOME", "/h")]), PathBuf::from("/h/.cache/huggingface/hub"));
    assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
    assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), PathBuf::from("/h/hf/hub"));
    assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/hf")]), PathBuf::from("/c"));
    assert!(matches!(from(&[]), Err(HubError::BadSetting { .. })));
}

#[test]
fn settings_are_read_and_checked() {
    let home = ("HOME", "/h");
    assert!(from(&[home, ("HF_HUB_OFFLINE", "1")]).unwrap().offline);
    assert!(!from(&[home, ("HF_HUB_OFFLINE", "0")]).unwrap().offline);
    assert_eq!(from(&[home, ("HF_ENDPOINT", "https://m.org/x/")]).unwrap().endpoint, "https://m.org/x");
    assert_eq!(from(&[home, ("HF_HUB_DOWNLOAD_TIMEOUT", "7")]).unwrap().stall, Duration::from_secs(7));
    for endpoint in ["ftp://m.org", "m.org", "https://user:geheim@m.org", "https://m.org?x"] {
        let error = from(&[home, ("HF_ENDPOINT", endpoint)]).unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}

#[test]
fn token_comes_from_variable_or_file_and_never_shows() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
    let home = folder.path().to_str().unwrap();
    let bearer = |variables: &[(&str, &str)]| from(variables).unwrap().token.map(|token| token.bearer());
    assert_eq!(bearer(&[("HF_HOME", home)]).as_deref(), Some("Bearer hf_file"));
    assert_eq!(bearer(&[("HF_HOME", home), ("HF_TOKEN", " hf_var ")]).as_deref(), Some("Bearer hf_var"));
    assert_eq!(bearer(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    assert_eq!(bearer(&[("HF_HOME", "/nowhere"), ("HF_TOKEN", "")]), None);
    let config = from(&[("HF_HOME", home)]).unwrap();
    assert!(!format!("{config:?} {:?}", Store::new(config.clone())).contains("hf_file"));
    let error = from(&[("HF_HOME", home), ("HF_TOKEN", "hf_se cret")]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("cret"), "{error}");
}
