# shellcheck shell=bash
# What the scripts share. Source it: `. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`.
# Needs only what every Debian has (bash, coreutils, findutils, util-linux): no curl, ps, ss, python.

set -euo pipefail

# A user's CDPATH would make `cd` print.
unset CDPATH
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# Absolute before anybody changes the directory: cargo takes a relative one from where it is called.
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
if [[ ${CARGO_TARGET_DIR:-} ]]; then export CARGO_TARGET_DIR=$target; fi

# Colours only for people: not into pipes and logs, and not where NO_COLOR asks for none.
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi
export bold dim red green plain

# Progress goes to stderr: stdout is for what a command was asked for.
say() { printf '%s\n' "$*" >&2; }

# die REASON [WAY OUT]
die() {
  say "${0##*/}: $1"
  if (($# > 1)); then say "  $2"; fi
  exit 1
}

# The last lines of a log, indented, under a heading.
show_tail() {
  local log=$1 lines=${2:-30}
  if [[ ! -s $log ]]; then
    say "  ($log is empty)"
    return
  fi
  say "  the end of $log:"
  tail -n "$lines" -- "$log" | sed 's/^/  | /' >&2
}

# A TCP port that nobody uses, below the range the kernel takes outgoing connections from, so that a server that is
# started again finds it free. free_port [PREFERRED]
free_port() {
  local taken='' port=${1:-} hex file
  for file in /proc/net/tcp /proc/net/tcp6; do
    if [[ -r $file ]]; then taken+=$(<"$file"); fi
  done
  for _ in {1..200}; do
    : "${port:=$((20000 + RANDOM % 12000))}"
    printf -v hex '%04X' "$port"
    # 0A = listening. Closed connections of a server that has just left (TIME_WAIT) do not keep it from coming back.
    if [[ ! $taken =~ :$hex\ 0+:0000\ 0A ]]; then
      printf '%s\n' "$port"
      return
    fi
    port=''
  done
  die 'no free TCP port between 20000 and 32000'
}

# Ids of the processes whose working directory is DIR (even if DIR was deleted under them) and whose program is PROGRAM.
# The kernel knows this; a pid file would only remember it, and be wrong after a kill or a reboot.
# processes_in DIR PROGRAM
processes_in() {
  local dir=$1 program=$2 link where name
  while IFS= read -r -d '' link && IFS= read -r -d '' where; do
    if [[ $where == "$dir" || $where == "$dir (deleted)" ]]; then
      link=${link%/cwd}
      if name=$(readlink "$link/exe" 2>/dev/null); then
        name=${name% (deleted)}
        if [[ ${name##*/} == "$program" ]]; then printf '%s\n' "${link#/proc/}"; fi
      fi
    fi
  done < <(find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -printf '%p\0%l\0' 2>/dev/null || true)
}

# Signals the processes of processes_in and waits until they are gone; after SECONDS they are killed.
# stop_processes DIR PROGRAM SIGNAL SECONDS
stop_processes() {
  local pids deadline=$((SECONDS + $4)) signal=$3
  while true; do
    mapfile -t pids < <(processes_in "$1" "$2")
    if ((${#pids[@]} == 0)); then return; fi
    if [[ $signal ]]; then kill "-$signal" "${pids[@]}" 2>/dev/null || true; fi
    signal=''
    if ((SECONDS >= deadline)); then signal=KILL deadline=$((SECONDS + $4)); fi
    sleep 0.05
  done
}

# Holds the lock FILE, on a descriptor, until the script ends; says so if it has to wait. Who deletes the file while others
# wait for it gives way: a lock on a file that is no longer there is worth nothing.
# take_lock FILE WHAT-FOR
lock_fd=''
take_lock() {
  local file=$1 what=$2
  while true; do
    exec {lock_fd}>"$file" || die "cannot write $file" "It belongs to $(stat -c %U "$(dirname "$file")"): run this as that user, or choose another place."
    if ! flock -n "$lock_fd"; then
      say "waiting for another $what to end"
      flock -w 900 "$lock_fd" || die "$file stays locked" "See who holds it: fuser $file"
    fi
    if [[ /proc/self/fd/$lock_fd -ef $file ]]; then return; fi
    exec {lock_fd}>&-
  done
}

# Closes what a subshell has inherited: for those that become something which can outlive its caller, and must then hold
# no lock, and no pipe that somebody reads to its end.
let_go() {
  local fd
  for fd in /proc/"$BASHPID"/fd/*; do
    fd=${fd##*/}
    # 255 is bash's own, and closed when another program takes over.
    if ((fd > 2 && fd < 255)); then exec {fd}>&-; fi
  done
}

# Installs Debian packages, as root or through sudo, without starting the servers in them. install_packages PACKAGE...
install_packages() {
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      die "these packages are missing, and only root may install them: $*" "Run as root: $root/script/install $*"
    fi
    as_root=(sudo)
    # Without a terminal nobody could type a password: fail with a reason instead of waiting.
    if [[ ! -t 0 ]]; then as_root+=(-n); fi
  fi
  say "installing the missing Debian packages: $*"
  "${as_root[@]}" "$root/script/install" "$@" || die "could not install: $*" "Run as root: $root/script/install $*"
}

# cargo, and what crates with parts in C (ring, jemalloc) and linking need.
ensure_toolchain() {
  if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then PATH=$HOME/.cargo/bin:$PATH; fi
  command -v cargo >/dev/null || die 'cargo is not on the PATH' 'Install a Rust toolchain: https://rustup.rs'
  local missing=()
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v make >/dev/null || missing+=(make)
  if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
}

# Node.js and npm, for what is written in JavaScript; npm itself says no if a package wants a newer Node.js.
ensure_node() {
  local missing=()
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
}

# python3 with what makes virtual environments: Debian ships that apart.
ensure_python() {
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then install_packages python3 python3-venv; fi
}

# What tests/it/sample_mail.rs asks whether a signature is good: Debian's python3 with dkim, whichever python3 is on the PATH.
ensure_dkim() {
  if ! /usr/bin/python3 -c 'import dkim, nacl' 2>/dev/null; then install_packages python3-dkim python3-nacl; fi
  command -v openssl >/dev/null || install_packages openssl
}

# What the tests in JavaScript use (tests/node), in target/node: installed again when the list has changed.
ensure_node_tools() {
  local tools=$target/node wanted=$root/tests/node
  ensure_node
  if cmp -s "$wanted/package-lock.json" "$tools/.installed"; then return; fi
  say 'installing the libraries of tests/node'
  rm -rf -- "$tools"
  mkdir -p "$tools"
  cp "$wanted"/package*.json "$tools"
  npm --prefix "$tools" ci --ignore-scripts --no-audit --no-fund >&2 || die 'npm could not install the libraries of tests/node'
  cp "$wanted/package-lock.json" "$tools/.installed"
}

# Sets REGRANT_CHROMIUM to a browser for tests.
ensure_chromium() {
  if [[ ${REGRANT_CHROMIUM:-} ]]; then return; fi
  # A browser without a font shows nothing at all.
  command -v chromium >/dev/null || install_packages chromium fonts-liberation
  REGRANT_CHROMIUM=$(command -v chromium)
  export REGRANT_CHROMIUM
}

# Prometheus and promtool, for tests. Debian's package brings a service; it is neither started nor left enabled.
ensure_prometheus() {
  if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then install_packages prometheus; fi
}

# cargo-deb, and what it and the checks of the package call. An own copy in target/tools, unless there is one already.
ensure_cargo_deb() {
  local version=3.8.0 missing=()
  command -v dpkg-shlibdeps >/dev/null || missing+=(dpkg-dev)
  command -v groff >/dev/null || missing+=(groff-base)
  command -v systemd-analyze >/dev/null || missing+=(systemd)
  if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
  PATH=$target/tools/bin:$PATH
  if command -v cargo-deb >/dev/null; then return; fi
  say "installing cargo-deb $version into $target/tools (once; it takes minutes)"
  CARGO_TARGET_DIR=$target/tools/build cargo install --quiet --locked --version "$version" --root "$target/tools" cargo-deb
  rm -rf -- "$target/tools/build"
}

# The status code of GET http://127.0.0.1:PORT$PATH, or nothing; PATH begins with a slash. http_status PORT PATH
http_status() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
    IFS=' ' read -r -t 5 _ status _ <&3
    printf '%s\n' "$status"
  ) 2>/dev/null || true
}

# Everything that a script starts inherits this mark, so that nothing is left behind, whoever its parent is by then.
mark_run() { export REGRANT_SCRIPT_RUN=$$-$RANDOM$RANDOM; }

# Ends what carries the mark: asks, then kills.
stop_run() {
  local pids signal mark=REGRANT_SCRIPT_RUN=$REGRANT_SCRIPT_RUN
  # The processes started here are not to find themselves.
  export -n REGRANT_SCRIPT_RUN
  for signal in TERM KILL; do
    for _ in {1..50}; do
      mapfile -t pids < <(grep -slzxF -- "$mark" /proc/[0-9]*/environ 2>/dev/null | cut -d / -f 3)
      # A plain `return` would, in a trap, return the status from before the trap.
      if ((${#pids[@]} == 0)); then return 0; fi
      kill "-$signal" "${pids[@]}" 2>/dev/null || true
      sleep 0.1
    done
  done
}

# Runs a command in a process group of its own, in the background but waited for, so that a signal to the script is
# acted on at once and not when the command ends. Output goes to the screen and to LOG. run_step LOG COMMAND...
step_group=''
run_step() {
  local log=$1 status=0
  shift
  set -m
  (
    let_go
    "$@" 2>&1 </dev/null | tee "$log"
  ) &
  step_group=$!
  set +m
  wait "$step_group" || status=$?
  step_group=''
  return "$status"
}
stop_step() {
  if [[ $step_group ]]; then kill -TERM -- "-$step_group" 2>/dev/null || true; fi
}
