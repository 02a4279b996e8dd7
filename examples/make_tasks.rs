//! Writes assets/tasks/{train,gate,held_out}.jsonl from the generators and the bundled knowledge.
//! Run it in the repository root after a change to either; a test says when it is due.
//! `-- puzzles 100 > puzzles.jsonl` writes as many Games of 24 in the benchmark's wording that train nothing,
//! `-- sums 100 > sums.jsonl` as many short sums of numbers that neither train nor judge.

use tillerman::tasks::{Split, Task, files};

/// So many questions, from this seed.
type Maker = fn(usize, u64) -> Vec<Task>;

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, what, count] = args.as_slice()
        && let Some(make) = match what.as_str() {
            "puzzles" => Some(files::puzzles as Maker),
            "sums" => Some(files::sums as Maker),
            _ => None,
        }
    {
        let count =
            count.parse().map_err(|_| std::io::Error::other(format!("{what} {count:?}: not a number")))?;
        print!("{}", files::write(&make(count, 1)));
        return Ok(());
    }
    for split in Split::ALL {
        let tasks = files::bundled(split);
        let path = format!("assets/tasks/{}.jsonl", split.name());
        std::fs::write(&path, files::write(&tasks))?;
        println!("{path}: {} questions", tasks.len());
    }
    Ok(())
}
