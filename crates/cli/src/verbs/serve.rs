//! `boxwood serve`: boxes over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use boxwood_daemon::{Options, openapi, serve};

use crate::open_runtime;
use crate::out::tell;

/// Serve boxes over HTTP (REST)
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood serve
  boxwood serve --socket /run/boxwood.sock --group boxwood
  boxwood serve --tcp 127.0.0.1:7070 --token-file token
  boxwood serve --tcp 0.0.0.0:7070 --token-file token --tls-cert cert.pem --tls-key key.pem
  curl --unix-socket /run/boxwood.sock http://box/v1/boxes

Who can use the socket can do everything with this user's boxes; see SECURITY.md. It ends by SIGTERM
or SIGINT; boxes that run detached go on.")]
pub(crate) struct Args {
    /// The Unix socket; without it and --tcp, boxwood.sock in the directory of boxes
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Let this group use the Unix socket, too
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Listen on TCP, too; needs a token, and off loopback TLS
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Option<SocketAddr>,
    /// The file with the token that clients over TCP have to send
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificate chain for TLS, as PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate, as PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Print the OpenAPI document and end
    #[arg(long)]
    openapi: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.openapi {
        crate::out::bytes(openapi().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options {
        socket: args.socket,
        group: args.group,
        tcp: args.tcp,
        token_file: args.token_file,
        tls_cert: args.tls_cert,
        tls_key: args.tls_key,
    };
    serve(open_runtime()?, &options, &mut |line| tell!("{line}"))?;
    Ok(ExitCode::SUCCESS)
}
