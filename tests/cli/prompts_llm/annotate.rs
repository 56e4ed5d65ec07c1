//! Annotations: what is asked again, given up, kept, and told.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{KEY, Run, assert_no_key, changed, done, failed, with_list};
use crate::{
    llm_server::{FakeModel, Reply},
    stderr, stdout,
};

#[test]
fn annotations_come_in_batches_with_a_schema_and_a_key() {
    let run = Run::with_prompts(FakeModel::start([]), 12);
    let output = run.annotate(&["--json"]);
    done(&output);
    run.assert_annotated(12);
    let log = run.model.log();
    assert_eq!(log.len(), 3);
    let body: Value = serde_json::from_slice(&log[2].body).unwrap();
    assert_eq!(log[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        (body["model"].as_str(), &body["response_format"]["type"]),
        (Some("gpt-4.1-mini"), &"json_schema".into())
    );
    let items = &body["response_format"]["json_schema"]["schema"]["properties"]["annotations"]["items"];
    assert_eq!(items["properties"]["aspects"]["items"]["enum"].as_array().unwrap().len(), 25);
    assert!(body["messages"][1]["content"].as_str().unwrap().starts_with("1. A drum piece called number 10"));
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&summary["annotated"], &summary["how"]["requests"]), (&12.into(), &3.into()));
    assert_eq!(summary["how"]["tokens"], serde_json::json!({"prompt": 30, "completion": 15}));
    // What is there is not asked for again.
    done(&run.annotate(&[]));
    assert_eq!(run.requests(), 3);
    failed(&run.annotate(&["--batch", "4"]), 2, &["`batch` is 5 there, 4 now", "--overwrite"]);
}

#[test]
fn failures_that_pass_are_waited_for() {
    let busy = r#"{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}"#.to_owned();
    let replies = [
        Reply::Status(429, "Retry-After: 1\r\n", busy),
        Reply::Status(500, "", "<html>oops</html>".to_owned()),
        Reply::Status(503, "", String::new()),
        Reply::Closed,
        Reply::Cut,
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    let started = Instant::now();
    let output = run.annotate(&[]);
    done(&output);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(stderr(&output).contains("status 429 (slow down); attempt 2 in 1."), "{}", stderr(&output));
    run.assert_annotated(5);
    assert_eq!(run.requests(), 6);
}

#[test]
fn bodies_that_are_no_answers_are_asked_for_again() {
    let replies =
        ["{\"choices\": [", "{\"choices\": []}", "null", "", "{\"choices\": [{\"message\": {\"content\": \"\"}}]}"];
    let model = FakeModel::start(replies.map(|body| Reply::Body(body.to_owned())));
    let run = Run::with_prompts(model, 5);
    done(&run.annotate(&[]));
    run.assert_annotated(5);
    assert_eq!(run.requests(), 6);
}

#[test]
fn slow_trickling_and_endless_answers_are_given_up_in_time() {
    let replies = [Reply::Late(Duration::from_secs(5)), Reply::Trickle, Reply::Huge];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    let started = Instant::now();
    let output = run.annotate(&["--timeout", "1"]);
    done(&output);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let said = stderr(&output);
    assert!(said.matches("no whole answer within 1 s").count() == 2 && said.contains("longer than 4 MiB"), "{said}");
    run.assert_annotated(5);
}

#[test]
fn messages_are_understood_in_any_dress_and_order() {
    let replies = [
        changed(|right| format!("Of course! {{Here}} they are:\n```json\n{right}\n```\nAnything else?")),
        with_list(|list| list.reverse()),
        changed(|right| {
            let right: Value = serde_json::from_str(&right).unwrap();
            right["annotations"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
        }),
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 15);
    done(&run.annotate(&[]));
    run.assert_annotated(15);
    assert_eq!(run.requests(), 3);
}

#[test]
fn what_is_wrong_in_a_message_is_asked_about_again_and_nothing_else() {
    let replies = [
        // Half a message: three of five are whole.
        changed(|right| {
            let end = right
                .match_indices("{\"aspects\"")
                .nth(3)
                .map_or_else(|| right.match_indices("\"prompt\"").nth(3).unwrap().0, |(at, _)| at);
            right[..end].to_owned()
        }),
        // One is missing, one is of a prompt that nobody has asked about.
        with_list(|list| list[1]["prompt"] = "A prompt from nowhere.".into()),
        // One is doubled, and not the same.
        with_list(|list| {
            let mut other = list[0].clone();
            other["aspects"] = serde_json::json!(["vocal"]);
            list.push(other);
        }),
        // Right, at last.
        Reply::Late(Duration::ZERO),
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    done(&run.annotate(&[]));
    run.assert_annotated(5);
    let asked: Vec<usize> = run.model.log().iter().map(|request| asked_about(&request.body).len()).collect();
    assert_eq!(asked, [5, 2, 1, 1]);
    let last: Value = serde_json::from_slice(&run.model.log()[3].body).unwrap();
    assert!(last["messages"][1]["content"].as_str().unwrap().contains("annotated more than once, and differently"));
}

/// The prompts in the body of a request.
fn asked_about(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let user = body["messages"][1]["content"].as_str().unwrap();
    user.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn invented_aspects_are_asked_about_once_and_then_left_out() {
    let invent = || with_list(|list| list[0]["aspects"].as_array_mut().unwrap().push("majestic".into()));
    let run = Run::with_prompts(FakeModel::start([invent(), invent()]), 5);
    let output = run.annotate(&[]);
    done(&output);
    run.assert_annotated(5);
    assert_eq!(run.requests(), 2);
    assert!(stderr(&output).contains("left out: `majestic` (1)"), "{}", stderr(&output));
    let corrected = Run::with_prompts(FakeModel::start([invent()]), 5);
    let output = corrected.annotate(&[]);
    corrected.assert_annotated(5);
    assert!(!stderr(&output).contains("majestic"));
}

#[test]
fn what_is_never_answered_rightly_is_told_and_the_rest_is_kept() {
    // Of the second batch prompt 7 is never there.
    let lacking = || with_list(|list| list.retain(|one| !one["prompt"].as_str().unwrap().contains("number 6 ")));
    let replies = std::iter::once(Reply::Late(Duration::ZERO)).chain((0..4).map(|_| lacking()));
    let run = Run::with_prompts(FakeModel::start(replies), 12);
    failed(
        &run.annotate(&[]),
        1,
        &["1 of 12 prompts are not annotated", "missing: 7", "7: not in the answer", "hint:"],
    );
    assert!(!run.path("annotations.json").exists());
    // The first batch, four times the second, the third.
    assert_eq!(run.requests(), 6);
    let partial = Run { folder: run.folder, model: FakeModel::start((0..5).map(|_| lacking())) };
    // Another address is another run, so the model must be the same one.
    failed(&partial.annotate(&["--partial"]), 2, &["base_url"]);
    let output = partial.annotate(&["--partial", "--overwrite", "--json"]);
    done(&output);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((partial.annotations().len(), &summary["missing"][0]["number"]), (11, &7.into()));
    assert!(stderr(&output).contains("missing: 7"), "{}", stderr(&output));
}

#[test]
fn refusals_are_told_in_the_words_of_the_model() {
    let refusal = || {
        Reply::Body(
            r#"{"choices": [{"message": {"content": null, "refusal": "I do not like this music."}}]}"#.to_owned(),
        )
    };
    let run = Run::with_prompts(FakeModel::start((0..4).map(|_| refusal())), 3);
    failed(
        &run.annotate(&[]),
        1,
        &["3 of 3 prompts", "missing: 1-3", "the model refuses to answer: I do not like this music."],
    );
}

#[test]
fn a_budget_counts_repetitions_and_the_next_run_goes_on() {
    let replies = [Reply::Late(Duration::ZERO), Reply::Status(500, "", String::new())];
    let run = Run::with_prompts(FakeModel::start(replies), 15);
    let output = run.annotate(&["--max-requests", "2", "--json"]);
    failed(&output, 1, &["10 of 15", "the budget of 2 requests is used up", "missing: 6-15", "--max-requests"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&summary["annotated"], &summary["out"]), (&5.into(), &Value::Null));
    assert_eq!(summary["missing"][0]["number"], 6);
    assert_eq!(run.requests(), 2);
    done(&run.annotate(&["--max-requests", "2"]));
    run.assert_annotated(15);
    assert_eq!(run.requests(), 4);
}

#[test]
fn servers_without_schemas_are_asked_without() {
    let run = Run::with_prompts(FakeModel::start([]).rejecting_schemas(), 10);
    let output = run.annotate(&[]);
    done(&output);
    run.assert_annotated(10);
    let with_schema =
        |request: &tonoscope_tests::server::Request| String::from_utf8_lossy(&request.body).contains("response_format");
    assert_eq!(run.model.log().iter().map(with_schema).collect::<Vec<_>>(), [true, false, false]);
    assert!(stderr(&output).contains("takes no JSON schema"));
}

#[test]
fn a_batch_that_is_refused_costs_the_others_nothing() {
    let refuse = || Reply::Status(400, "", r#"{"error": {"message": "flagged"}}"#.to_owned());
    let run = Run::with_prompts(FakeModel::start([refuse(), refuse()]), 10);
    failed(
        &run.annotate(&[]),
        1,
        &["5 of 10", "missing: 1-5", "3: the server refuses the request with status 400: flagged"],
    );
    let log = run.model.log();
    assert!(log.len() == 3 && String::from_utf8_lossy(&log[2].body).contains("response_format"));
    done(&run.annotate(&[]));
    run.assert_annotated(10);
    assert_eq!(run.requests(), 4);
}

#[test]
fn a_server_that_is_down_is_given_up_after_a_few_batches() {
    let run = Run::with_prompts(FakeModel::start((0..100).map(|_| Reply::Status(502, "", String::new()))), 50);
    failed(
        &run.annotate(&["--retries", "1"]),
        1,
        &["50 of 50", "no usable answer after 2 requests", "status 502", "missing: 1-50"],
    );
    assert_eq!(run.requests(), 6);
}

#[test]
fn failures_that_do_not_pass_end_it_at_once() {
    let echo = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}"#);
    let quota = r#"{"error": {"message": "pay", "code": "insufficient_quota"}}"#.to_owned();
    let missing = format!(r#"{{"error": {{"message": "no model for {KEY}"}}}}"#);
    let cases = [
        (Reply::Status(401, "", echo), "does not let us in, status 401", "OPENAI_API_KEY"),
        (Reply::Status(429, "", quota), "no credit left", ""),
        (Reply::Status(404, "", missing), "knows no model `gpt-4.1-mini`: no model for …", "--base-url"),
        (
            Reply::Status(307, "Location: http://example.org/v1\r\n", String::new()),
            "hands over to another address",
            "trust",
        ),
    ];
    for (reply, message, hint) in cases {
        let run = Run::with_prompts(FakeModel::start([reply]), 20);
        failed(&run.annotate(&[]), 1, &[message, "missing: 1-20", hint]);
        assert_eq!(run.requests(), 1);
        assert_eq!(fs::read_dir(run.folder.path()).unwrap().count(), 1);
        assert_no_key(run.folder.path());
    }
}

#[test]
fn a_run_that_is_killed_goes_on_without_asking_again() {
    let run = Run::with_prompts(FakeModel::start([]).slow(Duration::from_millis(150)), 30);
    let args = ["annotate", "prompts.txt", "--out", "annotations.json"];
    let mut kills = 0;
    for _ in 0..20 {
        let mut process = run.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        if process.try_wait().unwrap().is_some() {
            break;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        kills += 1;
    }
    done(&run.run(&args));
    run.assert_annotated(30);
    // Each kill costs the request that was under way, and no more.
    assert!(kills >= 1 && run.requests() <= 6 + kills, "{} requests, {kills} kills", run.requests());
}
