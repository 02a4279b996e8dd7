//! What one refusal teaches: the request it was about, and others only once it proved right.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

fn refusal(why: &str) -> Vec<Step> {
    vec![Step::Json(400, String::new(), json!({"error": {"message": why}}).to_string())]
}

#[tokio::test]
async fn requests_under_way_together_are_each_refused_and_all_answered() {
    const TOGETHER: usize = 8;
    let came = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |body, _| {
        if body.get("return_token_ids").is_none() {
            return stream(&["ok"]);
        }
        // None is refused before all are under way.
        came.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        while came.load(Ordering::SeqCst) < TOGETHER && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        refusal("Unrecognized request argument supplied: return_token_ids")
    });
    let engine = Arc::new(RemoteEngine::new("box", Remote { parallel: TOGETHER, ..settings(&server) }));
    let asked: Vec<_> = (0..TOGETHER)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, request(Role::Planner)).await.0 })
        })
        .collect();
    for one in asked {
        let remote = one.await.unwrap().unwrap().remote.unwrap();
        assert_eq!((remote.attempts, remote.left_out), (2, vec!["return_token_ids".to_string()]));
    }
    assert_eq!(server.bodies().len(), 2 * TOGETHER);
    // It proved right, so whoever comes later does not try it again.
    assert_eq!(ask(&engine, request(Role::Planner)).await.0.unwrap().remote.unwrap().attempts, 1);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_teaches_nothing() {
    // vLLM's words; they name a field that is not what is wrong.
    let long = "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context \
                length is 4096 tokens and your request has 9000 input tokens";
    let server = Server::start(move |body, head| {
        let content = body["messages"][1]["content"].as_str().unwrap_or_default();
        if content.len() > 1000 { refusal(long) } else { with_ids(body, head) }
    });
    let engine = RemoteEngine::new("box", settings(&server));
    let short = Request { sampler: Sampler::temperature(1.0, 5), ..request(Role::Planner) };
    let words = "word ".repeat(1000);
    let messages = vec![short.messages[0].clone(), Message::new(Speaker::User, [words.as_str()])];
    let (result, _) = ask(&engine, Request { messages, ..short.clone() }).await;
    assert!(matches!(fault(result), RemoteFault::Refused { status: 400, .. }));
    let completion = ask(&engine, short).await.0.unwrap();
    assert_eq!(completion.completion_ids, [7, 2]);
    assert_eq!(completion.logprobs, [-0.5, -0.5]);
    let remote = completion.remote.unwrap();
    assert_eq!((remote.untrainable, remote.left_out), (None, Vec::<String>::new()));
    let sent = server.bodies().pop().unwrap();
    for field in ["return_token_ids", "logprobs", "max_tokens", "stream_options"] {
        assert!(sent.get(field).is_some(), "{field} was left out");
    }
}
