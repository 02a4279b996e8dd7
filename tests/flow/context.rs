//! What does not fit the context: earlier queries go first, then the loop ends as at any limit; the query does not
//! fail while something can still be said.

use super::*;

/// Scripted, with a context of so many characters; the verifier always goes on.
fn narrow(chars: usize, result: &'static str) -> Flow {
    let script = move |request: &Request| {
        let needed = request.messages.iter().map(|message| message.text().len()).sum();
        if needed > chars {
            return Err(EngineError::ContextOverflow { needed, available: chars });
        }
        Ok(match request.role {
            Role::Verifier => r#"{"decision":"continue","reason":"not yet"}"#,
            Role::Executor => result,
            role => say(role),
        })
    };
    Flow { pack: Arc::new(Pack::bundled("full").unwrap()), ..flow(ScriptedEngine::new(script)) }
}

#[tokio::test]
async fn earlier_queries_that_do_not_fit_are_left_out_oldest_first() {
    let flow = narrow(9_000, r#"{"expression":"6*7"}"#);
    let pair = |n: usize| (format!("question {n}"), format!("answer {n} {}", "and so on ".repeat(100)));
    let ask = Ask { conversation: (0..20).map(pair).collect(), ..ask("And now?") };
    let (trajectory, events) = run(&flow, &ask, CancellationToken::new()).await;
    assert_eq!(trajectory.outcome, Outcome::Answered, "{:?}", trajectory.outcome);
    assert!((1..20).contains(&trajectory.left_out), "{}", trajectory.left_out);
    assert_eq!(trajectory.conversation.len(), 20, "the record says what there was");
    let told = events.iter().rev().find_map(|event| match event.body {
        Body::EarlierLeftOut { count } => Some(count),
        _ => None,
    });
    assert_eq!(told, Some(trajectory.left_out));
    let generator = trajectory.calls.last().unwrap().request.messages[1].text();
    assert!(generator.contains("answer 19") && !generator.contains("answer 0 "), "{generator}");
}

#[tokio::test]
async fn a_memory_that_does_not_fit_ends_the_loop_and_not_the_query() {
    let flow = narrow(7_000, r#"{"expression":"2^3000"}"#);
    let (trajectory, _) = run(&flow, &ask("How much is it?"), CancellationToken::new()).await;
    assert_eq!(trajectory.outcome, Outcome::Answered, "{:?}", trajectory.outcome);
    let turns = trajectory.memory.entries.len();
    assert!(turns > 0 && turns < 10, "{turns}");
    assert_eq!(trajectory.limit.as_deref(), Some("context (7000 tokens)"));
}

#[tokio::test]
async fn a_query_that_does_not_fit_by_itself_fails_with_the_remedy() {
    let flow = narrow(300, r#"{"expression":"6*7"}"#);
    let ask = Ask { conversation: vec![("a".into(), "b".into())], ..ask(&"long ".repeat(100)) };
    let (trajectory, _) = run(&flow, &ask, CancellationToken::new()).await;
    let Outcome::Failed { remedy, cause, .. } = trajectory.outcome else {
        panic!("{:?}", trajectory.outcome)
    };
    assert!(cause == Cause::Limit && remedy.contains("shorten the question"), "{remedy}");
}
