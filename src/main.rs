//! The program: everything is in the library, see `lib.rs` for the map.

fn main() {
    std::process::exit(tillerman::cli::main());
}
