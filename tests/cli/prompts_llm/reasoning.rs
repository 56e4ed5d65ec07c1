//! Models that think before they answer.

use std::fs;

use super::{Run, changed, done};
use crate::{
    llm_server::{FakeModel, a_prompt},
    stderr,
};

const DRAFT: &str = r#"{"prompts": ["A draft that nobody likes: a dull piece of nothing at 99 BPM."],
    "annotations": [{"prompt": "A flute piece called number 0 at 60 BPM.", "aspects": ["piano"], "bpm": 1}]}"#;

/// Answers with a draft in front, as models write them.
fn thinking() -> [fn(String) -> String; 4] {
    [
        |right| format!("<think>\nFirst try:\n```json\n{DRAFT}\n```\nNo.\n</think>\n\n```json\n{right}\n```"),
        |right| format!("First try: {DRAFT}\nNo.\n</think>\n{right}"),
        |right| format!("<thinking>{DRAFT}</thinking><think>{DRAFT}</think>{right}"),
        |right| format!("[THINK]{DRAFT}[/THINK]{right}"),
    ]
}

#[test]
fn a_draft_becomes_neither_a_prompt_nor_an_annotation() {
    for (index, think) in thinking().into_iter().enumerate() {
        let run = Run::with_prompts(FakeModel::start([changed(think)]), 5);
        done(&run.annotate(&[]));
        run.assert_annotated(5);
        assert_eq!(run.requests(), 1, "{index}");
        let run = Run::new(FakeModel::start([changed(think)]));
        done(&run.generate(&["--count", "3"]));
        let expected: Vec<String> = (0..3).map(|at| format!("{}. {}\n", at + 1, a_prompt(at))).collect();
        assert_eq!(fs::read_to_string(run.path("prompts.txt")).unwrap(), expected.concat(), "{index}");
    }
}

#[test]
fn an_answer_that_ends_while_the_model_thinks_is_asked_for_again() {
    let run = Run::with_prompts(FakeModel::start([changed(|_| format!("<think>{DRAFT}"))]), 5);
    let output = run.annotate(&[]);
    done(&output);
    run.assert_annotated(5);
    assert_eq!(run.requests(), 2);
    assert!(stderr(&output).contains("nothing follows its reasoning"), "{}", stderr(&output));
}
