//! The shell: arguments, and one file a subcommand.

pub mod ask;
pub mod asyncapi;
pub mod check;
pub mod completions;
pub mod config_show;
pub mod dead_letters;
pub mod emails;
pub mod history;
pub mod keys;
pub mod man;
pub mod moment;
pub mod send;
pub mod status;
pub mod templates;
pub mod users;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app;
use crate::config::Config;
use crate::lifecycle::notify;
use crate::store::migrations;
use crate::telemetry;

/// Gives people access to their account again: a daemon for password resets, invitations and forced sign-outs.
#[derive(Debug, Parser)]
#[command(name = "regrant", version, max_term_width = 100)]
struct Arguments {
    /// The configuration file. Default: the one that `REGRANT_CONFIG` names, else ./regrant.toml, else /etc/regrant/regrant.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM, which lets it finish work in progress and exit with 0.
    Run,
    /// Bring the database's schema up to date.
    Migrate,
    /// Check configuration, keys, database, broker, mail server and templates; exit 1 if any fails.
    ///
    /// It declares the exchanges and queues at the broker, as the daemon does; with a mistyped broker.prefix that creates new ones.
    /// It changes nothing else: it neither consumes nor publishes messages, sends no mail and writes nothing to the database.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what the daemons are doing now: lanes, rates, backlog, mails, problems.
    Status(status::Status),
    /// Show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create, show and rotate keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// List, check and preview the email templates, and send samples.
    #[command(subcommand)]
    Templates(TemplatesCommand),
    /// Publish one command to the broker.
    Send(send::Send),
    /// Find people and show their profiles.
    #[command(subcommand)]
    Users(users::Users),
    /// Print what happened to a person: commands, passwords, emails, or why no email came.
    History(history::History),
    /// List, replay or delete commands that were put aside because they could not be understood or carried out.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// List emails, and send failed ones again.
    #[command(subcommand)]
    Emails(emails::Emails),
    /// Print a completion script for a shell. For bash, save it as ~/.local/share/bash-completion/completions/regrant.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory, for packaging.
    #[command(hide = true)]
    Man {
        /// The directory; created if it does not exist.
        directory: PathBuf,
    },
    /// Print the reference as an AsyncAPI 3.0 document: every command, reply, event and error.
    Asyncapi(asyncapi::Asyncapi),
}

impl Command {
    /// Whether it does nothing without the servers and keys that the configuration names. (`run` and `check` say by themselves
    /// that there is none.)
    const fn asks_servers(&self) -> bool {
        matches!(
            self,
            Self::Migrate
                | Self::Keys(_)
                | Self::Send(_)
                | Self::Users(_)
                | Self::History(_)
                | Self::DeadLetters(_)
                | Self::Emails(_)
        )
    }
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration in force and where each value comes from; secrets are hidden.
    Show,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Create the key file; an existing one is never overwritten.
    Init {
        /// Add a pepper: a secret that is mixed into every password hash.
        #[arg(long)]
        pepper: bool,
    },
    /// Print each key's id, age and use, and the public sealing key.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create new keys for links, codes and sealed secrets; those made with the old keys stay valid.
    Rotate(keys::Rotate),
}

#[derive(Debug, Subcommand)]
enum TemplatesCommand {
    List(templates::List),
    /// Check all templates; exit 1 if anything is wrong.
    Check(templates::check::Check),
    Preview(templates::preview::Preview),
    Send(templates::send::Send),
}

/// A subcommand's exit code, or why it failed.
type Outcome = Result<ExitCode, String>;

/// Reads the arguments and runs the subcommand; the whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "regrant: {reason}");
            // Whoever stands in another directory would look for the mistake in the file that was not read.
            let missing =
                Config::missing_file(arguments.config.as_deref()).filter(|_| arguments.command.asks_servers());
            if let Some(missing) = missing {
                let _ = writeln!(std::io::stderr(), "regrant: {missing}; --config names one");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let load = || Config::load(arguments.config.as_deref()).map_err(|e| e.to_string());
    let without_secrets = || templates::preview::config(arguments.config.as_deref());
    match &arguments.command {
        Command::Run => load().and_then(|config| run_daemon(config, load)).inspect_err(|reason| notify::failed(reason)),
        Command::Migrate => {
            let config = load()?;
            telemetry::init(&config.log).map_err(|e| e.to_string())?;
            let applied = block_on(migrations::run(&config.database.url))?.map_err(|e| format!("database.url: {e}"))?;
            if applied.is_empty() {
                print("The schema is up to date.\n")?;
            }
            for version in applied {
                print(&format!("applied {version}\n"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { json } => block_on(check::run(load(), *json))?,
        Command::Status(status) => block_on(status::run(status, load()))?,
        Command::Config(ConfigCommand::Show) => {
            print(&config_show::text(&load()?))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Keys(KeysCommand::Init { pepper }) => {
            let made = keys::init(&load()?.keys.file, *pepper, crate::clock::now()).map_err(|e| e.to_string())?;
            print(&made)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Keys(KeysCommand::Show { json }) => {
            print(&keys::show(&load()?, *json, crate::clock::now()).map_err(|e| e.to_string())?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Keys(KeysCommand::Rotate(flags)) => {
            print(&keys::rotate(&load()?, *flags, crate::clock::now()).map_err(|e| e.to_string())?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Templates(TemplatesCommand::List(list)) => templates::list(list, &without_secrets()?),
        Command::Templates(TemplatesCommand::Check(check)) => templates::check::run(check, without_secrets()),
        Command::Templates(TemplatesCommand::Preview(preview)) => {
            let config = without_secrets()?;
            block_on(templates::preview::run(preview, config))?
        }
        Command::Templates(TemplatesCommand::Send(send)) => {
            let config = load()?;
            block_on(templates::send::run(send, &config))?
        }
        Command::Asyncapi(asyncapi) => {
            print(&asyncapi::text(asyncapi))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Users(users) => {
            let config = load()?;
            block_on(users::run(users, &config))?
        }
        Command::History(history) => {
            let config = load()?;
            block_on(history::run(history, &config))?
        }
        Command::DeadLetters(dead_letters) => {
            let config = load()?;
            block_on(dead_letters::run(dead_letters, &config))?
        }
        Command::Emails(emails) => {
            let config = load()?;
            block_on(emails::run(emails, &config))?
        }
        Command::Completions { shell } => completions::run(*shell),
        Command::Man { directory } => {
            man::write(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Send(send) => {
            let config = load()?;
            block_on(send::run(send, &config))?
        }
    }
}

fn run_daemon(config: Config, load: impl Fn() -> Result<Config, String>) -> Outcome {
    config.validate_for_run().map_err(|e| e.to_string())?;
    telemetry::init(&config.log).map_err(|e| e.to_string())?;
    let reload = || load().and_then(|new| new.validate_for_run().map_err(|e| e.to_string()).map(|()| new));
    let ran = block_on(async {
        let signals = app::signals()?;
        app::run(config, signals, reload).await
    })?;
    ran.map(|()| ExitCode::SUCCESS).map_err(|e| e.to_string())
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| format!("tokio: {e}"))?;
    let outcome = runtime.block_on(future);
    // What blocks a thread (a file on a server that is gone) may do so for ever: nothing that ended waits for it.
    runtime.shutdown_background();
    Ok(outcome)
}

/// Asks at the terminal; anything but a yes is a no.
///
/// On a thread of its own: connections that are open meanwhile want their heartbeats, and the program may end without an answer.
async fn agreed(question: String) -> bool {
    let (answered, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        let _ = answered.send(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"));
    });
    answer.await.unwrap_or(false)
}

/// Prints. A reader that went away (`| head`) is no error; anything else is: what is printed may be a password that is shown
/// once.
fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write the output: {error}")),
        _ => Ok(()),
    }
}
