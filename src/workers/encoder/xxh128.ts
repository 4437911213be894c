import { createXXHash128 } from 'hash-wasm';
import { Sink } from '../../shared/rowbinary.js';

/**
 * XXH3-128 by hash-wasm's module, without its wrapper: what is to be hashed is written straight into the module's memory, and
 * the hash is read there. The wrapper makes four typed arrays and two copies a call, which costs three times the hash.
 */

/** The module that is inside hash-wasm (its src/xxhash128.c). */
interface HashModule {
  readonly memory: { readonly buffer: ArrayBuffer };
  /** Where its input, seed and output memory is. */
  Hash_GetBuffer(): number;
  /** Begins a hash; the seed are the first eight bytes of that memory. */
  Hash_Init(): void;
  /** Takes in so many bytes from the start of that memory. */
  Hash_Update(length: number): void;
  /** Leaves the hash at the start of that memory, big-endian. */
  Hash_Final(): void;
}

interface Instantiation {
  readonly exports: Partial<HashModule>;
}

/** Size of the module's input memory, hash-wasm's MAX_HEAP. */
export const HASH_CHUNK_BYTES = 16 * 1024;
const HASH_BYTES = 16;

/** hash-wasm does not hand out its module: it is caught where it is made. */
async function loadModule(): Promise<HashModule> {
  const wasm = (
    globalThis as unknown as { WebAssembly: { instantiate: (...args: unknown[]) => Promise<Instantiation> } }
  ).WebAssembly;
  const { instantiate } = wasm;
  let found: Partial<HashModule> | undefined;
  wasm.instantiate = async (...args) => {
    const made = await instantiate(...args);
    // Of a compiled module an instance is made, of bytes a pair: that is not hash-wasm's.
    if (made.exports?.Hash_GetBuffer !== undefined) found = made.exports;
    return made;
  };
  try {
    await createXXHash128();
  } finally {
    wasm.instantiate = instantiate;
  }
  if (found === undefined) throw new Error('hash-wasm has no module of the form that is known');
  return found as HashModule;
}

const hashModule = await loadModule();

export class Xxh128 {
  /** The input: HASH_CHUNK_BYTES of room. */
  readonly chunk: Sink;
  readonly #hash: Uint8Array;

  constructor() {
    const { buffer } = hashModule.memory;
    const at = hashModule.Hash_GetBuffer();
    this.chunk = new Sink(Buffer.from(buffer, at, HASH_CHUNK_BYTES));
    this.#hash = new Uint8Array(buffer, at, HASH_BYTES);
  }

  /** Begins a hash; what `chunk` held is void. */
  begin(): void {
    const { chunk } = this;
    chunk.view.setInt32(0, 0, true);
    chunk.view.setInt32(4, 0, true);
    hashModule.Hash_Init();
    chunk.at = 0;
  }

  /** Takes in what was written to `chunk`, which is then empty. */
  update(): void {
    hashModule.Hash_Update(this.chunk.at);
    this.chunk.at = 0;
  }

  /** The hash, big-endian, valid until `chunk` is written to. */
  end(): Uint8Array {
    hashModule.Hash_Final();
    return this.#hash;
  }
}
