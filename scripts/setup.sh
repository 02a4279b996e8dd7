#!/bin/sh
# Install what building needs and this machine lacks: cmake, libclang, a C++ compiler, Rust.
# Says what it does, asks nothing, does nothing when nothing is missing.
set -eu
. "$(dirname "$0")/env.sh"

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf 'setup: %s\n' "$*" >&2; }

have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  if [ "$(uname)" = Darwin ]; then xcode-select -p >/dev/null 2>&1 || [ -d /opt/homebrew/opt/llvm ]; return; fi
  # Not libclang-cpp, which is another library.
  ldconfig -p 2>/dev/null | grep -q 'libclang\(-[0-9.]*\)\{0,1\}\.so' && return 0
  for d in /usr/lib/llvm-*/lib /usr/lib64 /usr/lib /usr/lib/*-linux-gnu; do
    for f in "$d"/libclang.so* "$d"/libclang-[0-9]*.so*; do [ -e "$f" ] && return 0; done
  done
  return 1
}

missing=""
have cmake || missing="$missing cmake"
have_libclang || missing="$missing libclang"
{ have c++ || have g++ || have clang++; } || missing="$missing compiler"
have make || missing="$missing make"

if [ -n "$missing" ]; then
  say "missing:$missing"
  if have apt-get; then
    pkgs=""
    for m in $missing; do
      case $m in
        cmake) pkgs="$pkgs cmake" ;;
        libclang) pkgs="$pkgs libclang-dev" ;;
        compiler) pkgs="$pkgs g++" ;;
        make) pkgs="$pkgs make" ;;
      esac
    done
    sudo=""
    if [ "$(id -u)" != 0 ]; then
      have sudo || { say "not root and no sudo; run as root: apt-get install -y$pkgs"; exit 1; }
      sudo="sudo"
    fi
    say "$sudo apt-get install -y$pkgs"
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    $sudo apt-get install -y -qq $pkgs >/dev/null
  elif have brew; then
    for m in $missing; do
      case $m in
        cmake) say "brew install cmake"; brew install --quiet cmake ;;
        libclang) say "brew install llvm"; brew install --quiet llvm ;;
        *) say "install Apple's command line tools first: xcode-select --install"; exit 1 ;;
      esac
    done
  elif have dnf; then
    say "sudo dnf install -y cmake clang-devel gcc-c++ make"
    sudo dnf install -y -q cmake clang-devel gcc-c++ make
  else
    say "no apt, dnf or brew here; install these yourself:$missing"
    exit 1
  fi
fi

if ! have cargo; then
  say "missing: cargo (Rust)"
  if have curl; then
    say "installing Rust for this user by rustup (https://rustup.rs)"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy
  else
    say "curl is missing too; install Rust from https://rustup.rs"
    exit 1
  fi
fi
