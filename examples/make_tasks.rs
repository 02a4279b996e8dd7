//! Writes assets/tasks/{train,gate,held_out}.jsonl from the generators and the bundled knowledge.
//! Run it in the repository root after a change to either; a test says when it is due.
//! `-- puzzles 100 > puzzles.jsonl` writes as many Games of 24 in the benchmark's wording that train nothing.

use tillerman::tasks::{Split, files};

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, what, count] = args.as_slice()
        && what == "puzzles"
    {
        let count =
            count.parse().map_err(|_| std::io::Error::other(format!("puzzles {count:?}: not a number")))?;
        print!("{}", files::write(&files::puzzles(count, 1)));
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
