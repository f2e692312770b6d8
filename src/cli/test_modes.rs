//! Tests of the configuration: `-be`, `-bt`, `-bv`.

use super::Program;
use super::caller;
use super::delivery::Worker;
use super::test_expand;
use crate::config::macros::{self, Macros};
use crate::expand::context::{Context, Globals, NoHooks};
use crate::log::Echo;
use crate::route::address_test::{self, Shown};
use std::io::{BufRead, Write};
use std::sync::Arc;

/// `-be`: with the caller's rights, which were taken before the configuration was read.
pub fn expand(program: &Program) -> anyhow::Result<i32> {
    if program.invocation.loaded_message.is_some() {
        anyhow::bail!("exim: option -Mset is known but not supported yet");
    }
    let mut context = Context::new(program.globals.clone(), &NoHooks);
    let who = caller::caller(&program.asked())?;
    context.session.origin = caller::origin_of_test(&program.asked(), &who.login);
    if program.invocation.message.sender.is_some() {
        context.session.origin.authenticated_id = program.invocation.message.authenticated_id.clone();
        context.session.origin.authenticated_sender = program.invocation.message.authenticated_sender.clone();
    }
    context.message.return_path = Some(Default::default());
    context.session.caller_uid = who.uid;
    context.session.caller_gid = who.gid;
    let own = crate::mail::Address::new(who.login.clone(), program.globals.qualify_domain.clone());
    context.message.sender = Some(caller::given_sender(&program.asked())?.unwrap_or(own));
    // Macros may hold passwords: those of the file are for admin users. Others have what they gave themselves.
    let defined = match program.standing.admin {
        true => &program.reading.written.macros,
        false => &program.invocation.macros,
    };
    let known = Macros::new(macros::builtin(&crate::load::tables())).with_defined(defined);
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    test_expand::run(&context, known, &program.invocation.arguments, &mut input, &mut output)?;
    Ok(0)
}

/// `-bt`; `-bv` and `-bvs` with `verify`.
pub fn addresses(program: Program, verify: Option<bool>) -> anyhow::Result<i32> {
    let who = caller::caller(&program.asked())?;
    let sender = match caller::given_sender(&program.asked())? {
        Some(sender) => sender,
        None => crate::mail::Address::new(who.login.clone(), program.globals.qualify_domain.clone()),
    };
    let worker = Worker::start(program)?;
    let program = &worker.program;
    // What routing would log is for whoever tests, not for the log; the two forms are Exim's.
    let log = match verify {
        None => program.globals.log.only_shown_by(Echo::to_standard_error()),
        Some(_) => program.globals.log.on_standard_error(),
    };
    let globals = Globals { log: Arc::new(log), ..(*program.globals).clone() };
    let mut context = Context::new(Arc::new(globals), &NoHooks);
    context.session.origin = caller::origin_of_test(&program.asked(), &who.login);
    context.message.sender = Some(sender);
    let mut out = std::io::stdout().lock();
    let mut shown = Shown::new(program.standing.admin);
    let mut code = 0;
    let mut one = |text: &[u8], out: &mut dyn Write| -> std::io::Result<()> {
        let chain = &worker.configuration.routers;
        let worse = match verify {
            None => address_test::test(chain, &mut context, text, &mut shown, out)?,
            Some(as_sender) => address_test::verify(chain, &mut context, text, as_sender, &shown, out)?,
        };
        code = code.max(worse);
        Ok(())
    };
    if program.invocation.arguments.is_empty() {
        prompt(&mut out, &mut one)?;
    } else {
        for text in program.invocation.arguments.iter().flat_map(|argument| addresses_in(argument)) {
            one(text, &mut out)?;
        }
    }
    out.flush()?;
    Ok(i32::from(code))
}

/// One argument may be a list with commas, unless they stand in a source route.
fn addresses_in(text: &[u8]) -> Vec<&[u8]> {
    if !text.contains(&b',') || text.starts_with(b"@") {
        return vec![text];
    }
    let syntax = crate::mail::Syntax { domain_literals: true, ..Default::default() };
    crate::mail::parse_list(text, syntax).into_iter().map(|item| &text[item.span]).collect()
}

/// Tests one address and writes the answer.
type Test<'a> = dyn FnMut(&[u8], &mut dyn Write) -> std::io::Result<()> + 'a;

/// Addresses line by line.
fn prompt(out: &mut dyn Write, one: &mut Test) -> std::io::Result<()> {
    const LONGEST_LINE: u64 = 64 * 1024;
    let mut input = std::io::stdin().lock();
    loop {
        out.write_all(b"> ")?;
        out.flush()?;
        let mut line = Vec::new();
        if std::io::Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            out.write_all(b"\n")?;
            return Ok(());
        }
        one(bstr::ByteSlice::trim(line.as_slice()), out)?;
    }
}
