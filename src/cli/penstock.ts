import v8 from 'node:v8';
import { CommanderError } from 'commander';
import { ConfigError, configWarnings, loadConfig } from '../shared/config.js';
import { messageOf } from '../shared/errors.js';
import { UsageError } from './console.js';
import { createProgram } from './program.js';

/**
 * The command; bin/penstock runs it. What a command needs is imported when it runs: `--help` answers at once, and `migrate`
 * neither loads the HTTP server nor fails where its binary is missing.
 */

/** Bad usage or configuration: nothing was started, and nothing will be until someone changes it. */
const EXIT_USAGE = 2;
const EXIT_FAILURE = 1;

const program = createProgram({
  async serve(flags) {
    const config = loadConfig(flags);
    // uWebSockets.js reads it once, when it is loaded; its 4 KB are less than browsers send in cookies.
    process.env['UWS_HTTP_MAX_HEADERS_SIZE'] ??= '16384';
    const { createLogger } = await import('../shared/log.js');
    const log = createLogger({ level: config.logLevel, thread: 'main' });
    for (const warning of configWarnings(config)) log.warn(warning);
    // bin/penstock bounds main's young generation by this flag, which V8 reads when it makes a heap and puts above `resourceLimits`: for the
    // threads that follow it is taken back.
    v8.setFlagsFromString('--max-semi-space-size=0');
    const { serve } = await import('../main/index.js');
    await serve(config);
  },
  async migrate(action, flags) {
    const config = loadConfig(flags);
    const { migrate } = await import('./migrate.js');
    await migrate(action, config);
  },
  async deadLetters(request, flags) {
    const config = loadConfig(flags);
    const { deadLetters } = await import('./dead-letter/command.js');
    process.exitCode = await deadLetters(request, config);
  },
  async wal(request, flags) {
    const config = loadConfig(flags);
    const { wal } = await import('./wal/command.js');
    process.exitCode = await wal(request, config);
  },
  async audit(request, flags) {
    const config = loadConfig(flags);
    const { audit } = await import('./audit/command.js');
    process.exitCode = await audit(request, config);
  },
  async forget(request, flags) {
    const config = loadConfig(flags);
    const { forget } = await import('./forget/command.js');
    process.exitCode = await forget(request, config);
  },
});

// Who reads no further, as `head` does, has what he wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  throw error;
});

/** Errors that our own mistakes throw; their stack says where, which no operator could tell from the message. */
const OWN_MISTAKES = [TypeError, ReferenceError, RangeError, SyntaxError];

function explain(error: unknown): string {
  if (OWN_MISTAKES.some((type) => error instanceof type) && error instanceof Error) return error.stack ?? error.message;
  const cause = error instanceof Error && error.cause !== undefined ? `: ${firstLine(messageOf(error.cause))}` : '';
  return messageOf(error) + cause;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // commander has printed it.
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  } else if (error instanceof ConfigError || error instanceof UsageError) {
    process.stderr.write(`penstock: ${error.message}\n`);
    process.exitCode = EXIT_USAGE;
  } else {
    process.stderr.write(`penstock: ${explain(error)}\n`);
    // Threads and sockets that a failed start has opened would keep the process alive.
    process.exit(EXIT_FAILURE);
  }
}
