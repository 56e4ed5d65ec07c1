use super::*;

fn annotation(aspects: &[&str]) -> Annotation {
    Annotation { prompt: "p".into(), aspects: aspects.iter().map(|&aspect| aspect.into()).collect(), bpm: 0.0 }
}

#[test]
fn lines_become_prompts() {
    let text = b"\xef\xbb\xbf1. One. Two.  \r\n\n  \n12.\tThree\xe2\x80\x93four\nMr. Five plays.\n3.5 seconds\n7. \n2) Six\n80s pop";
    let prompts = read_prompts(text).unwrap();
    assert_eq!(prompts, ["One. Two.", "Three\u{2013}four", "Mr. Five plays.", "3.5 seconds", "Six", "80s pop"]);
    assert_eq!(read_prompts(b"\n \n1. \n"), Err(InputError::Empty { what: "prompts" }));
    assert_eq!(read_prompts(b"\xef\xbb\xbf"), Err(InputError::Empty { what: "prompts" }));
    assert_eq!(read_prompts(b"one\rtwo\r\nthree").unwrap(), ["one", "two", "three"]);
    let lines = read_prompt_lines(b"\r\none\r\n\ntwo").unwrap();
    assert_eq!(lines.iter().map(|prompt| prompt.line).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn a_prompt_file_has_the_same_prompts_in_every_encoding() {
    let text = "1. \u{c9}tude for \u{1d11e}\r\n2. a calm piece";
    let expected = ["\u{c9}tude for \u{1d11e}", "a calm piece"];
    let wide =
        |unit: fn(u16) -> [u8; 2]| ["\u{feff}", text].concat().encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    for bytes in [text.into(), ["\u{feff}", text].concat().into(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
        assert_eq!(read_prompts(&bytes).unwrap(), expected, "{bytes:?}");
    }
}

#[test]
fn what_is_no_text_is_refused_by_its_line() {
    let refused = |bytes: &[u8], part: &str| {
        let error = read_prompts(bytes).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(b"a\nThree\x96four", "line 2 is not text: its byte at index 7 is not UTF-8");
    refused(b"\xef\xbb\xbfa\n\xff", "line 2 is not text: its byte at index 5");
    // UTF-16 and UTF-32 without a mark, and UTF-32 with one.
    refused(b"a\0b\0", "line 1 is not text: it holds a NUL");
    refused(b"\xff\xfe\0\0a\0\0\0", "line 1 is not text: it holds a NUL");
    refused(b"\xff\xfea\0\n\0b", "line 2 is not text: the file ends within");
    refused(b"\xfe\xff\xd8\x34\0a", "line 1 is not text: half of");
}

#[test]
fn the_concept_of_a_template_is_no_part_of_its_prompt() {
    let lines = read_prompt_lines(b"piano\tA sad piano.\n\n2. oboe\tA glad oboe.\n").unwrap();
    let line = |text: &str, concept: &str, line| PromptLine { text: text.into(), concept: Some(concept.into()), line };
    assert_eq!(lines, [line("A sad piano.", "piano", 1), line("A glad oboe.", "oboe", 3)]);
    let mixed = read_prompts(b"piano\tA sad piano.\nA glad oboe.").unwrap_err().to_string();
    assert!(mixed.contains("line 1 has a tab and line 2 has none"), "{mixed}");
    let many = read_prompts(b"piano\tA sad\tpiano.").unwrap_err().to_string();
    assert!(many.contains("line 1 has more than one tab"), "{many}");
}

#[test]
fn the_vocabularies_differ_where_words_do() {
    use Vocabulary::{Corrected, Published};
    let tables = ConceptTables::published();
    let sides = |concept: &str, aspects: &[&str], vocabulary| {
        let Sides { positive, negative } = tables.concept(concept).unwrap().prompt(&annotation(aspects), vocabulary);
        (positive, negative)
    };
    assert_eq!(sides("is_harmonic", &["bright sound"], Published), (true, false));
    assert_eq!(sides("is_harmonic", &["bright sound"], Corrected), (true, false));
    assert_eq!(sides("is_warm", &["warm sound"], Published), (false, true));
    assert_eq!(sides("is_warm", &["warm sound"], Corrected), (true, false));
    assert_eq!(sides("is_bass", &["deep bass"], Published), (true, false));
    assert_eq!(sides("is_bass", &["deep bass"], Corrected), (false, true));
    assert_eq!(sides("is_percussion", &["drum"], Published), (true, true));
    assert_eq!(sides("is_percussion", &["drum"], Corrected), (true, false));
    assert_eq!(sides("is_brass", &["reed"], Corrected), (false, false));
}

#[test]
fn lists_are_printed_and_read_as_python_does() {
    let lists: [(&[&str], &str); 5] = [
        (&[], "[]"),
        (&["bass", "warm sound"], "['bass', 'warm sound']"),
        (&["it's"], r#"["it's"]"#),
        (&["'\"", "a, 'b"], r#"['\'"', "a, 'b"]"#),
        (&["a\\\n\u{7}ü]"], r"['a\\\n\x07ü]']"),
    ];
    for (items, printed) in lists {
        assert_eq!(printed_list(items), printed);
        assert_eq!(parse_printed_list(printed).unwrap(), items);
    }
    assert_eq!(parse_printed_list(r#" [ 'a',"b" ] "#).unwrap(), ["a", "b"]);
    for bad in ["", "bass", "['a'", "['a' 'b']", "['a',]", "[a]", r"['\q']", r"['\x0", "['a\\']", "[1]", r"['\ud800']"]
    {
        assert!(parse_printed_list(bad).is_err(), "{bad}");
    }
}

/// An `examples.json` of one note, with `from` replaced by `to`.
fn one_note(from: &str, to: &str) -> Vec<u8> {
    let text = r#"{"bass_synthetic_068-049-025": {"note": 1, "note_str": "bass_synthetic_068-049-025", "instrument": 2,
        "instrument_str": "bass_synthetic_068", "pitch": 49, "velocity": 25, "sample_rate": 16000,
        "qualities": [0, 1, 0, 0, 0, 0, 0, 0, 0, 0], "qualities_str": ["dark"], "instrument_family": 0,
        "instrument_family_str": "bass", "instrument_source": 2, "instrument_source_str": "synthetic", "more": null}}"#;
    assert!(text.contains(from), "{from}");
    text.replace(from, to).into_bytes()
}

#[test]
fn a_note_that_leads_elsewhere_is_refused() {
    let note = read_notes(&one_note("null", r#"{"of": [1, 2]}"#)).unwrap().remove(0);
    assert_eq!((note.pitch, &*note.qualities_str[0], note.sample_rate), (49, "dark", 16_000));
    let refused = |from: &str, to: &str, parts: &[&str]| {
        let message = read_notes(&one_note(from, to)).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
    };
    for name in ["../x", "..", "/etc/passwd", "a/b", "a\\\\b", "C:x", "", ".x", "a b", "\\u0000"] {
        refused("bass_synthetic_068-049-025", name, &["named as no file of `NSynth` is"]);
    }
    refused("bass_synthetic_068-049-025", &"a".repeat(100_000), &["…", "named as no file"]);
    refused("\"bass_synthetic_068\"", "\"../b\"", &["its instrument is called `../b`"]);
    refused("\"note_str\": \"bass", "\"note_str\": \"brass", &["its `note_str` is `brass_synthetic_068-049-025`"]);
    refused("\"dark\"", "\"=1+1\"", &["a quality is called `=1+1`"]);
    refused("[0, 1, 0,", "[0,", &["8 qualities, expected 10"]);
    refused("\"pitch\": 49", "\"pitch\": \"high\"", &["line 2"]);
    refused("\"pitch\": 49,", "", &["missing field `pitch`"]);
    refused("null", &"[".repeat(100_000), &["expected value"]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read_notes(&one_note("null", &deep)).is_ok(), "fields that nobody asks for are passed over");
    refused("49", &deep, &["invalid type: sequence"]);
    let one = String::from_utf8(one_note("null", "1")).unwrap();
    let twice = format!("{}, {}", one.strip_suffix('}').unwrap(), one.strip_prefix('{').unwrap());
    assert!(read_notes(twice.as_bytes()).unwrap_err().to_string().contains("occurs twice"));
    assert_eq!(read_notes(b"{}"), Err(InputError::Empty { what: "notes" }));
    assert!(read_notes(b"[]").unwrap_err().to_string().contains("expected an object of notes"));
    assert!(read_notes(b"").is_err() && read_notes(b"\xff\xfe").is_err());
}

#[test]
fn annotations_that_are_none_are_refused() {
    assert!(read_annotations(b"[]").is_err() && read_annotations(b"{\"prompt\": 1}").is_err());
    assert!(read_annotations("[".repeat(100_000).as_bytes()).is_err());
    let tempo = read_annotations(br#"[{"prompt": "a", "aspects": [], "bpm": -1}]"#).unwrap_err().to_string();
    assert!(tempo.contains("entry 0 has a tempo of -1 BPM"), "{tempo}");
    let read =
        read_annotations(b"[{\"prompt\": \"a\x96\", \"aspects\": [\"bass\"], \"bpm\": 90.5, \"more\": 1}]").unwrap();
    assert_eq!((read[0].prompt.as_str(), read[0].bpm), ("a\u{fffd}", 90.5));
    let text = serde_json::to_string(&annotation(&["bass"])).unwrap();
    assert_eq!(text, r#"{"prompt":"p","aspects":["bass"],"bpm":0}"#);
}

#[test]
fn own_tables_have_the_same_form() {
    let rule = |rule: &str| {
        let side = |side: &str| format!("{side}.filter = {rule}\n{side}.padder = {rule}\n");
        let generated = side("generated").replace("qualities_str", "tag.aspects");
        format!("[z]\n{}{generated}[a]\n{}{generated}", side("nsynth"), side("nsynth"))
    };
    let good = rule(r#"{ join = "or", "qualities_str" = ["dark"] }"#);
    let tables = ConceptTables::from_toml("own.toml", &good).unwrap();
    assert_eq!(tables.names().collect::<Vec<_>>(), ["z", "a"]);
    let error = |text: &str| ConceptTables::from_toml("own.toml", text).unwrap_err().to_string();
    let nearest = error(&rule(r#"{ join = "or", "quality_str" = ["dark"] }"#));
    assert_eq!(
        nearest,
        "`own.toml`: concept `z`, nsynth.filter: there is no column `quality_str`; the nearest is `qualities_str`"
    );
    assert!(error(&rule(r#"{ join = "or", "qualities_str" = [] }"#)).contains("nothing is wanted of `qualities_str`"));
    assert!(error(&rule(r#"{ join = "or" }"#)).contains("it asks for no column"));
    assert!(error(&rule(r#"{ join = "xor", "qualities_str" = ["a"] }"#)).contains("xor"));
    assert!(error(&good.replace("[z]", "[\"../z\"]")).contains("concept `../z`: a name is"));
    assert!(error("").contains("there is no concept"));
    let unknown = ConceptTables::published().concept("is_bras").unwrap_err().to_string();
    assert_eq!(unknown, "no concept is called `is_bras`; the nearest is `is_brass`");
}

#[test]
fn results_are_read_in_both_forms() {
    let result = r#"{"concept": "is_brass", "diff_step": 5, "pos_gen_audio_samples": 7, "neg_gen_audio_samples": 14,
        "embed_model": "laion-clap", "class_model_type": "svm", "class_model_train_acc": 1.0,
        "class_model_test_acc": 0.5, "acc": 0.5, "tpr": 0.25, "tnr": 0.75}"#;
    let list = read_results(format!("[{result}, {result}]").as_bytes()).unwrap();
    let by_concept = read_results(format!("{{\"is_brass\": [{result}, {result}]}}").as_bytes()).unwrap();
    assert_eq!(list, by_concept);
    assert_eq!(list["is_brass"][1].neg_gen_audio_samples, 14);
    let undefined = read_results(format!("[{}]", result.replace("0.25", "null")).as_bytes()).unwrap();
    assert_eq!((undefined["is_brass"][0].tpr, undefined["is_brass"][0].tnr), (None, Some(0.75)));
    assert!(read_results(b"{}").is_err() && read_results(b"[3]").is_err());
}
