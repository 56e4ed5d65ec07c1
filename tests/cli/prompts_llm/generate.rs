//! Prompts: blocks, doubles, and what is missing in the end.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{Run, done, failed};
use crate::{
    llm_server::{FakeModel, Reply, a_prompt},
    stderr,
};

#[test]
fn prompts_are_written_in_numbered_blocks() {
    let run = Run::new(FakeModel::start([]));
    done(&run.generate(&["--count", "10", "--per-request", "4", "--seed", "5"]));
    let text = fs::read_to_string(run.path("prompts.txt")).unwrap();
    let numbers = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2];
    let lines = numbers.iter().enumerate().map(|(index, number)| format!("{number}. {}\n", a_prompt(index)));
    let expected = lines.collect::<Vec<_>>().concat();
    assert_eq!(text, expected);
    let seeds: Vec<Value> = run
        .model
        .log()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["seed"].clone())
        .collect();
    assert_eq!(seeds, [5, 6, 7]);
    // What was generated can be annotated.
    done(&run.annotate(&[]));
    run.assert_annotated(10);
}

#[test]
fn doubled_short_and_unusable_prompts_are_asked_for_again() {
    let replies = [
        Reply::Message("1. A calm song for harp at 60 BPM.\n2. a calm SONG for harp, at 60 BPM\n3. Hm.\n".to_owned()),
        Reply::Message("[\"A calm song for harp at 60 BPM\", \"Another calm song for harp at 60 BPM\"]".to_owned()),
    ];
    let run = Run::new(FakeModel::start(replies));
    done(&run.generate(&["--count", "6", "--per-request", "4"]));
    let text = fs::read_to_string(run.path("prompts.txt")).unwrap();
    let different: BTreeSet<&str> = text.lines().map(|line| line.split_once(". ").unwrap().1).collect();
    assert_eq!((text.lines().count(), different.len()), (6, 6));
    assert!(
        text.starts_with("1. A calm song for harp at 60 BPM.\n2. Another calm song for harp at 60 BPM\n3. "),
        "{text}"
    );
    let users: Vec<String> =
        run.model.log().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    let asked: Vec<bool> = ["Write 4 ", "Write 3 ", "Write 2 ", "Write 2 "]
        .iter()
        .zip(&users)
        .map(|(part, user)| user.contains(part))
        .collect();
    assert_eq!((asked, users.len()), (vec![true; 4], 4));
    assert!(users[1].contains("These are written already") && !users[0].contains("These are written already"));
}

#[test]
fn a_model_that_repeats_itself_ends_in_a_list_of_what_is_missing() {
    let run = Run::new(FakeModel::start((0..6).map(|_| Reply::Message("[\"The same old song again.\"]".to_owned()))));
    let output = run.generate(&["--count", "5"]);
    failed(&output, 1, &["4 of 5 prompts are not written", "missing: 2-5", "0 new prompts, 1 that there were already"]);
    assert!(!run.path("prompts.txt").exists());
    done(&run.generate(&["--count", "5"]));
    assert!(fs::read_to_string(run.path("prompts.txt")).unwrap().starts_with("1. The same old song again.\n"));
    let budget = Run::new(FakeModel::start([]));
    let output = budget.generate(&["--count", "8", "--per-request", "4", "--max-requests", "1", "--partial"]);
    done(&output);
    assert_eq!(fs::read_to_string(budget.path("prompts.txt")).unwrap().lines().count(), 4);
    assert!(stderr(&output).contains("missing: 5-8"), "{}", stderr(&output));
}
