use super::*;

fn ismir() -> ConceptSet {
    ConceptSet::ismir().clone()
}

#[test]
fn the_built_in_file_has_ten_concepts_whose_indices_are_those_of_their_labels() {
    let set = ismir();
    let labels = Labels::audioset();
    let names: Vec<&str> = set.concepts.iter().map(|concept| concept.name.as_str()).collect();
    let published: Vec<usize> =
        set.concepts.iter().map(|concept| concept.class(Indices::Published, labels).unwrap()).collect();
    assert_eq!(
        names,
        ["guitar", "piano", "trumpet", "violin", "classical", "pop", "jazz", "rock", "electronic", "hiphop"]
    );
    assert_eq!(published, [140, 153, 187, 191, 237, 216, 235, 219, 245, 217]);
    assert_eq!(set.disagreements(labels), Ok(vec![]));
    assert_eq!(set.pairs().count(), 90);
    let relevant: Vec<usize> = set
        .concepts
        .iter()
        .map(|concept| concept.relevant(labels).unwrap().into_iter().filter(|hit| *hit).count())
        .collect();
    assert_eq!(relevant, [5, 3, 2, 3, 1, 1, 2, 4, 6, 1]);
}

#[test]
fn prompts_are_in_the_published_order() {
    let set = ismir();
    let guitar = set.prompts(set.concept("guitar").unwrap(), 100).unwrap();
    assert_eq!(guitar[0], "Compose a emotional rock piece, with a guitar melody. Use a fast tempo.");
    assert_eq!(guitar[1], "Compose a emotional rock piece, with a guitar melody. Use a medium tempo.");
    assert_eq!(guitar[5], "Compose a passionate rock piece, with a guitar melody. Use a fast tempo.");
    assert_eq!(guitar[25], "Compose a emotional pop piece, with a guitar melody. Use a fast tempo.");
    assert_eq!(guitar[99], "Compose a happy jazz piece, with a guitar melody. Use a medium to fast tempo.");
    let hiphop = set.prompts(set.concept("hiphop").unwrap(), 125).unwrap();
    assert_eq!(hiphop[5], "Compose a emotional hiphop piece, with a piano melody. Use a fast tempo.");
    assert_eq!(hiphop[124], "Compose a happy hiphop piece, with a flute melody. Use a medium to fast tempo.");
}

#[test]
fn a_wrong_index_is_reported() {
    let mut set = ismir();
    set.concepts[1].index = Some(152);
    let found = set.disagreements(Labels::audioset()).unwrap();
    assert_eq!(
        found,
        [Disagreement {
            concept: "piano".into(),
            published: (152, Some("Keyboard (musical)".into())),
            by_label: (153, "Piano".into()),
        }]
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let set = ismir();
    let message = |result: Result<ConceptSet, ConceptError>| result.unwrap_err().to_string();
    assert_eq!(
        set.concept("guitarr").unwrap_err().to_string(),
        "no concept is called `guitarr`; the nearest is `guitar`"
    );
    assert_eq!(
        set.prompts(&set.concepts[0], 126).unwrap_err().to_string(),
        "concept `guitar` makes 125 prompts, 126 were asked for"
    );
    assert_eq!(
        message(set.with_template("A [GENRE] piece at a [SPEED] tempo.")),
        "`template`: the template has a slot `[SPEED]` that no words are given for"
    );
    assert_eq!(
        message(set.with_template("[MOOD] [GENRE] [TEMPO]")),
        "`template`: the template has no slot `[INSTRUMENTS]`, so its prompts would repeat"
    );
    assert!(message(ConceptSet::from_toml("own.toml", "template = 3")).starts_with("`own.toml`: TOML parse error"));
    let mut unknown = set.clone();
    unknown.concepts[0].relevant.push("Guitars".into());
    let error = unknown.disagreements(Labels::audioset()).unwrap_err();
    assert!(
        matches!(error, ConceptError::Label { concept, source } if concept == "guitar" && source.nearest == "Guitar")
    );
}

#[test]
fn own_concepts_have_the_same_form() {
    let text = r#"
        template = "[WHO] plays [WHAT] [loudly"
        [[slots]]
        name = "WHO"
        words = ["a man", "a [WHAT]"]
        [[slots]]
        name = "WHAT"
        words = ["harp"]
        [[concepts]]
        name = "strings"
        slot = "WHAT"
        word = "the harp"
        label = "Harp"
        relevant = ["Harp"]
    "#;
    let set = ConceptSet::from_toml("own.toml", text).unwrap();
    let strings = set.concept("strings").unwrap();
    assert_eq!(set.prompts(strings, 2).unwrap(), ["a man plays the harp [loudly", "a [WHAT] plays the harp [loudly"]);
    assert!(matches!(
        strings.class(Indices::Published, Labels::audioset()),
        Err(ConceptError::Unpublished { concept }) if concept == "strings"
    ));
    let text = toml::to_string(&set).unwrap();
    assert_eq!(ConceptSet::from_toml("again.toml", &text), Ok(set));
}

#[test]
fn a_prompt_names_concepts_by_whole_words() {
    let concept = |name: &str, word: Option<&str>| Concept {
        name: name.to_owned(),
        slot: "SLOT".to_owned(),
        word: word.map(str::to_owned),
        label: String::new(),
        index: None,
        relevant: vec![],
    };
    let named = |name: &str, prompt: &str| concept(name, None).is_named_in(prompt);
    assert!(named("guitar", "A slow Guitar melody.") && named("guitar", "two guitars, please"));
    assert!(!named("guitar", "a guitarist") && !named("pop", "popular music") && !named("rock", ""));
    assert!(
        named("hiphop", "a hip hop beat") && named("hiphop", "Hip-Hop") && named("slow_to_medium", "slow to medium")
    );
    assert!(!named("hiphop", "hip or hop") && named("jazz", "jazz"));
    assert!(named("琴", "古琴の曲") && !named("鼓", "古琴の曲"));
    assert!(concept("r&b", Some("rhythm and blues")).is_named_in("some rhythm and blues"));
}
