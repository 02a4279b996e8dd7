//! Questions no tool here can answer: private facts, tomorrow, right now. The right move is to say so.

use rand::Rng;

use crate::tasks::world::World;
use crate::tasks::{
    Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, fill, knowledge, names, tool,
};

/// {p} something of the speaker's, {n} a name.
const PRIVATE: Wordings = Wordings {
    train: &[
        "[What is|Tell me|Give me] the name of my {p}.",
        "Where [is|did I put|should I look for] my {p}?",
        "Where did I leave my {p}?",
        "[What colour|What size|Which brand] [is|has] my {p}?",
        "[How old|How big|How heavy|How fast] is my {p}?",
        "When did I [buy|see|lose|sell] my {p}?",
        "Who [has|sold me|gave me|found] my {p}?",
        "What is my {p} doing[| now| at home]?",
        "[How much did|What did] my {p} cost [me|last year]?",
        "[Why is|Why was] my {p} [so old|not here|late|broken]?",
        "[Is|Was] my {p} [at home|happy|here|ready]?",
        "[Can you see|Have you seen|Do you remember|Guess] my {p}?",
        "[Describe|Find|Call|Bring me] my {p}.",
        "[Which {p} do I|What {p} should I] [like best|want|take with me]?",
    ],
    gate: &["What did my {p} do yesterday?", "Who took my {p}?"],
    held_out: &["Do you know where my {p} is?", "What is my {p} like?", "Tell me the colour of my {p}."],
};

const PLACE: Wordings = Wordings {
    train: &[
        "[What will the weather in {n} be|How will the weather in {n} be] [tomorrow|on Sunday|next month]?",
        "Will it [rain|snow|be hot|be windy] in {n} [tomorrow|tonight|at noon]?",
        "What is [happening|going on] in {n} [right now|at this moment|now]?",
        "Who will [win|be chosen|speak] in {n} [next week|next year|tonight]?",
        "Is it [cold|hot|raining|sunny|dark] in {n} [today|now|outside]?",
        "What happened in {n} [this morning|last night|an hour ago]?",
        "[How many people are|Who is] [asleep|outside|at work] in {n} [now|tonight]?",
        "[What time is it|Is there any traffic|Are the shops open] in {n} [now|at the moment]?",
        "What will [the news|people|the papers] say about {n} [tomorrow|next week]?",
        "[Tell me|Predict|Guess] [tomorrow's weather|the next winner|tonight's news] in {n}.",
    ],
    gate: &["What will happen in {n} next week?", "Will it be cold in {n} tomorrow?"],
    held_out: &["Is it going to rain in {n} today?", "What will happen in {n} tomorrow?"],
};

const PERSON: Wordings = Wordings {
    train: &[
        "What [did {n} do|was {n} doing] [this morning|last night|an hour ago]?",
        "What is {n} [thinking|eating|wearing|saying] [right now|at the moment]?",
        "What [time|hour] did {n} [wake up|come home|go out] today?",
        "Where will {n} [be|sleep|eat] [tonight|next week|on Sunday]?",
        "[Is|Was] {n} [happy|tired|at home|busy] [today|this morning|now]?",
        "[What is|Tell me] {n} [going to say|about to do|dreaming of]?",
        "[How does {n} feel|What does {n} want|Who is with {n}] [today|right now|now]?",
        "Will {n} [call me|visit us|be late|sleep well] [tomorrow|tonight|next week]?",
        "[Guess|Predict] what {n} [thinks|plans|wants].",
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
        (name, &PRIVATE)
    } else {
        let fact = world.facts.get(rng.random_range(0..world.facts.len().max(1)))?;
        match fact.kind.as_str() {
            "city" | "country" => (fact.entity.clone(), &PLACE),
            "person" => (fact.entity.clone(), &PERSON),
            _ => return None,
        }
    };
    // Things are split by their own hash in every world, names by the world's rule.
    if !(if private { Split::of(&name) == split } else { world.allows(&name, split) }) {
        return None;
    }
    let query = fill(&wordings.pick(split, rng), &[("p", &name), ("n", &name)]);
    let steps = vec![Step::new("none", "answer the question".to_string(), tool::BASE, String::new())];
    let goal = knowledge::lower_query(&query);
    // True of the name, and no answer: a result that says something must not look like one.
    // Drawn by hash: the published files of the other splits must not move with it.
    let about = world.about(&name);
    let drawn = blake3::hash(query.as_bytes()).as_bytes()[0] as usize;
    let beside = match about.get(drawn % about.len().max(1)) {
        Some(&fact) => format!("the {} of {name}", world.facts[fact].relation),
        None => format!("my {name}"),
    };
    let wrong = vec![
        WrongStep { at: 0, sub_goal: format!("find {goal}"), tool: tool::SEARCH.to_string() },
        WrongStep { at: 0, sub_goal: format!("find {beside}"), tool: tool::SEARCH.to_string() },
        WrongStep { at: 0, sub_goal: format!("compute {goal}"), tool: tool::CALCULATOR.to_string() },
    ];
    Some(Task::new(Family::Unanswerable, query, Answer::CannotAnswer, steps, wrong))
}
