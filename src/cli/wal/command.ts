import fs from 'node:fs';
import { walDirectory } from '../../workers/flusher/wal/file-system.js';
import type { Config } from '../../shared/config.js';
import { UsageError } from '../console.js';
import type { WalRequest } from '../operator-commands.js';
import { dump } from './dump.js';
import { stat, verify } from './inspect.js';
import { replay } from './replay.js';
import { locateLog } from './segment-files.js';

/** `penstock wal`: the log of a data directory, this instance's or one that is no more. */
export async function wal(request: WalRequest, config: Config): Promise<number> {
  const { action, directory, json } = request;
  const place =
    directory === undefined
      ? { dataDir: config.dataDir, walDirectory: walDirectory(config.dataDir) }
      : locateLog(directory);
  if (!fs.existsSync(place.walDirectory)) {
    throw new UsageError(`there is no write-ahead log: ${place.walDirectory} does not exist`);
  }
  switch (action) {
    case 'verify':
      return verify(place, json);
    case 'stat':
      return stat(place, json);
    case 'dump':
      return dump(place.walDirectory, { json, events: request.events });
    case 'replay':
      return replay(place, config, { json, keep: request.keep });
  }
}
