//! Asks for people of all classes.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::people::Class;
use crate::support::asker::Asker;

/// How long an answer took.
pub struct Sample {
    pub class: Class,
    pub milliseconds: f64,
}

/// `each` questions of every class.
pub async fn in_random_order(asker: &Asker, classes: &[Class], each: usize) -> Vec<Sample> {
    let mut questions: Vec<(Class, usize)> =
        (0..each).flat_map(|n| classes.iter().map(move |class| (*class, n))).collect();
    // The same order in every run; warmed up are the first of each class.
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    for round in questions.chunks_mut(classes.len() * 10) {
        round.shuffle(&mut rng);
    }
    let mut samples = Vec::with_capacity(questions.len());
    for (class, n) in questions {
        // What follows an answer (a mail, an event) should be over before the next question, as an attacker would wait.
        tokio::time::sleep(Duration::from_micros(rng.random_range(5_000..15_000))).await;
        let (command, body) = class.question(n);
        let (answer, milliseconds) = asker.ask(command, &body).await;
        let expected = answer["result"]["accepted"] == true || answer["error"]["code"] == "invalid_credentials";
        assert!(expected, "the answer itself tells: {answer}");
        samples.push(Sample { class, milliseconds });
    }
    samples
}
