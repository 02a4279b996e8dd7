fn main() {
    if std::env::args().nth(1).as_deref() == Some("__deck-demo")
        && let Err(error) = tillerman::deck::demo::run()
    {
        eprintln!("tillerman: {error}");
        std::process::exit(error.exit_code());
    }
}
