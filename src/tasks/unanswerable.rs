//! Questions no tool here can answer: private facts, tomorrow, right now. The right move is to say so.

use rand::Rng;

use crate::tasks::world::World;
use crate::tasks::{
    Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, fill, knowledge, names, tool,
};

/// {p} something of the speaker's, {n} a name.
const PRIVATE: Wordings = Wordings {
    train: &[
        "What is the name of my {p}?",
        "What is my {p} called?",
        "Where is my {p}?",
        "Where did I leave my {p}?",
        "What colour is my {p}?",
        "How old is my {p}?",
        "When did I buy my {p}?",
        "Who has my {p}?",
        "What is my {p} doing?",
    ],
    gate: &["What did my {p} do yesterday?", "Who took my {p}?"],
    held_out: &["Do you know where my {p} is?", "What is my {p} like?", "Tell me the colour of my {p}."],
};

const PLACE: Wordings = Wordings {
    train: &[
        "What will the weather in {n} be tomorrow?",
        "Will it rain in {n} tomorrow?",
        "What is happening in {n} right now?",
        "Who will win in {n} next week?",
        "Is it cold in {n} today?",
        "What happened in {n} this morning?",
    ],
    gate: &["What will happen in {n} next week?", "Will it be cold in {n} tomorrow?"],
    held_out: &["Is it going to rain in {n} today?", "What will happen in {n} tomorrow?"],
};

const PERSON: Wordings = Wordings {
    train: &[
        "What did {n} do this morning?",
        "What is {n} thinking right now?",
        "What did {n} eat yesterday?",
        "What time did {n} wake up today?",
        "Where will {n} be tomorrow?",
    ],
    gate: &["What is {n} doing right now?"],
    held_out: &["What will {n} do tomorrow?", "What did {n} do yesterday?"],
};

const THINGS: &[&str] = &[
    "sister",
    "brother",
    "car",
    "house",
    "dog",
    "cat",
    "bag",
    "phone",
    "key",
    "boss",
    "teacher",
    "neighbour",
    "bicycle",
    "friend",
    "doctor",
    "coat",
    "book",
    "wallet",
    "uncle",
    "aunt",
    "cousin",
    "garden",
    "hat",
    "desk",
    "umbrella",
    "watch",
    "horse",
    "boat",
    "grandfather",
    "grandmother",
    "ticket",
    "guitar",
    "camera",
    "daughter",
    "son",
    "parrot",
    "ladder",
    "lamp",
    "chair",
    "ring",
    "passport",
    "tent",
    "scarf",
    "kettle",
    "piano",
    "sofa",
];

#[cfg(test)]
pub(crate) fn wordings() -> Vec<&'static Wordings> {
    vec![&PRIVATE, &PLACE, &PERSON]
}

pub(crate) fn attempt(world: &World, split: Split, rng: &mut TaskRng) -> Option<Task> {
    let private = names::chance(rng, 0.5);
    let (name, wordings) = if private {
        let made_up = !world.real && names::chance(rng, 0.5);
        let name = if made_up { names::word(rng) } else { names::pick(rng, THINGS).to_string() };
        (name, PRIVATE)
    } else {
        let fact = world.facts.get(rng.random_range(0..world.facts.len().max(1)))?;
        match fact.kind.as_str() {
            "city" | "country" => (fact.entity.clone(), PLACE),
            "person" => (fact.entity.clone(), PERSON),
            _ => return None,
        }
    };
    // Things are split by their own hash in every world, names by the world's rule.
    if !(if private { Split::of(&name) == split } else { world.allows(&name, split) }) {
        return None;
    }
    let query = fill(wordings.pick(split, rng), &[("p", &name), ("n", &name)]);
    let steps = vec![Step::new("none", "answer the question".to_string(), tool::BASE, String::new())];
    let goal = knowledge::lower_query(&query);
    let wrong = vec![
        WrongStep { at: 0, sub_goal: format!("find {goal}"), tool: tool::SEARCH.to_string() },
        WrongStep { at: 0, sub_goal: format!("compute {goal}"), tool: tool::CALCULATOR.to_string() },
    ];
    Some(Task::new(Family::Unanswerable, query, Answer::CannotAnswer, steps, wrong))
}
