//! Prompts, annotations, notes, concepts: texts, JSON and TOML.

use tonoscope_core::{
    concepts::ConceptSet,
    hooks::{Capture, CaptureName, Edit, HookPoint, Selector, edit_distance},
    models::t5::T5Tokenizer,
    musicologist::{
        ConceptTables, annotator::Annotator, parse_printed_list, read_annotations, read_notes, read_prompt_lines,
        read_prompts, read_results,
    },
};
use tonoscope_tests::fuzz::check;

use super::{fixture, source};

/// The text that `bytes` are, as commands read it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The first `lines` of a text.
fn beginning(text: &[u8], lines: usize) -> Vec<u8> {
    text.split_inclusive(|&byte| byte == b'\n').take(lines).flatten().copied().collect()
}

#[test]
fn prompts() {
    let wide: Vec<u8> = "\u{feff}1. a guitar\n鼓\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut all = seeds(&[
        "a guitar plays\n\n  a piano  \n",
        "\u{feff}1. a guitar\r\n2. a piano\r\n",
        "guitar\ta guitar plays\npiano\ta piano plays\n",
        "1) \"rock\"\n- jazz\n* blues\n",
    ]);
    all.push(wide);
    check("prompts", &all, |bytes| {
        let (lines, prompts) = (read_prompt_lines(bytes), read_prompts(bytes));
        assert!(prompts.is_err() || lines.is_ok(), "prompts without lines");
    });
}

#[test]
fn annotations() {
    let all = seeds(&[
        r#"[{"prompt": "a guitar", "aspects": ["guitar", "warm sound"], "bpm": 120}, {"prompt": "b", "aspects": []}]"#,
        r#"[{"prompt": "\u9f13 é", "aspects": ["drum"], "bpm": 0.5}]"#,
    ]);
    check("annotations", &all, |bytes| drop(read_annotations(bytes)));
}

#[test]
fn printed_lists() {
    let all = seeds(&["['guitar', 'it\\'s']", r#"["a, 'b", 'c']"#, " [ 'a',\"b\" ] ", "[]"]);
    check("printed_lists", &all, |bytes| drop(parse_printed_list(&text(bytes))));
}

#[test]
fn results() {
    let all = seeds(&[
        r#"[{"concept": "is_brass", "diff_step": 5, "pos_gen_audio_samples": 7, "neg_gen_audio_samples": 14,
        "embed_model": "laion-clap", "class_model_type": "svm", "class_model_train_acc": 0.5, "class_model_test_acc": null,
        "acc": 0.9, "tpr": 1.0, "tnr": 0.1}]"#,
        r#"{"is_brass": []}"#,
    ]);
    check("results", &all, |bytes| drop(read_results(bytes)));
}

#[test]
fn notes() {
    let all = seeds(&[r#"{"bass_synthetic_068-049-025": {"note": 1, "note_str": "bass_synthetic_068-049-025",
        "instrument": 2, "instrument_str": "bass_synthetic_068", "pitch": 49, "velocity": 25, "sample_rate": 16000,
        "qualities": [0, 1, 0, 0, 0, 0, 0, 0, 0, 0], "qualities_str": ["dark"], "instrument_family": 0,
        "instrument_family_str": "bass", "instrument_source": 2, "instrument_source_str": "synthetic"}}"#]);
    check("notes", &all, |bytes| drop(read_notes(bytes)));
}

#[test]
fn concepts() {
    check("concepts", &[source("data/concepts_ismir.toml")], |bytes| {
        if let Ok(set) = ConceptSet::from_toml("concepts.toml", &text(bytes)) {
            for (concept, _) in set.pairs().take(4) {
                drop(set.prompts(concept, 3));
            }
            drop(set.with_template("{} {}"));
        }
    });
}

#[test]
fn concept_tables() {
    let published = source("data/concepts_musicologist.toml");
    let all = [beginning(&published, 40), beginning(&published, 80)];
    check("concept_tables", &all, |bytes| {
        if let Ok(tables) = ConceptTables::from_toml("tables.toml", &text(bytes)) {
            drop(tables.concept("is_guitar"));
        }
    });
}

#[test]
fn annotator() {
    // The format, two instruments and the tempi of the built-in one.
    let whole: serde_json::Value = serde_json::from_slice(&source("data/annotator.json")).unwrap();
    let mut small = whole.clone();
    if let Some(instruments) = small["instruments"].as_object_mut() {
        let kept: Vec<String> = instruments.keys().take(2).cloned().collect();
        instruments.retain(|word, _| kept.contains(word));
    }
    check("annotator", &[small.to_string().into_bytes()], |bytes| {
        if let Ok(annotator) = Annotator::from_json("annotator.json", bytes) {
            drop(annotator.annotate("A rock song with guitar and drums at 120 bpm, 90."));
        }
    });
}

#[test]
fn tokenizers() {
    let all = [fixture("t5_tiny/tokenizer.json"), fixture("clap_tiny/tokenizer.json")];
    check("tokenizer", &all, |bytes| {
        if let Ok(tokenizer) = T5Tokenizer::from_bytes(bytes, 64, 128) {
            for prompt in ["a guitar plays", "", "鼓 é \u{0} \u{1F3B8}"] {
                drop(tokenizer.encode(prompt));
                drop(tokenizer.encode_truncated(prompt));
            }
            drop(tokenizer.tokens(&[0, 1, 2, u32::MAX]));
        }
    });
}

#[test]
fn hook_names() {
    let all = seeds(&[
        "decoder.3.resid_pre",
        "encoder.0.self_attn.q",
        "decoder.*.mlp_out",
        "decoder.logits:mean_time",
        "dit.10.cross_attn.pattern",
    ]);
    check("hook_names", &all, |bytes| {
        let name = text(bytes);
        drop(name.parse::<HookPoint>());
        drop(name.parse::<CaptureName>());
        drop(HookPoint::find(&name, &HookPoint::all(tonoscope_core::hooks::Component::DECODER, 2)));
    });
}

#[test]
fn specs() {
    let all = seeds(&[
        r#"{"points": "decoder.1.mlp_out", "change": {"do": "add", "value": {"tensor": "v", "axes": ["feature"]},
            "scale": 1.5}, "scope": {"branch": "cond", "prompts": [0], "steps": {"start": 0, "end": 3}}}"#,
        r#"{"points": "decoder.*.resid_post", "reduce": "mean_time"}"#,
    ]);
    let known = HookPoint::all(tonoscope_core::hooks::Component::DECODER, 3);
    check("specs", &all, |bytes| {
        drop(serde_json::from_slice::<Edit>(bytes));
        drop(serde_json::from_slice::<Capture>(bytes));
        if let Ok(selector) = serde_json::from_slice::<Selector>(bytes) {
            drop(selector.expand(&known));
        }
    });
}

#[test]
fn distances_of_long_names_take_no_time() {
    let long = "resid".repeat(200_000);
    let started = std::time::Instant::now();
    assert_eq!(edit_distance("resid_pst", "resid_post"), 1);
    assert_eq!(edit_distance(&long, &long), 0);
    assert_eq!(edit_distance(&long, "resid"), 251, "256 letters count");
    assert!(HookPoint::find(&long, &HookPoint::all(tonoscope_core::hooks::Component::DECODER, 3)).is_err());
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}
