/**
 * Compiles to dist/: TypeScript, and the one-pass encoder to WebAssembly. Makes one file of TypeBox, and copies what no compiler
 * knows about: the two files of the API page.
 *
 * The compiler is a native binary (0.6 s where its JavaScript predecessor takes 3 s), which npm installs as an optional
 * package. `npm ci --omit=optional`, which leaves out the embedded ClickHouse, leaves it out too, and so do platforms that
 * it is not made for: there the JavaScript compiler builds the same. Where neither is installed (`npm ci --omit=dev`),
 * an existing build is kept.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ASSETS = ['swagger-ui.css', 'swagger-ui-bundle.js'];

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

function findCompiler() {
  const native = `node_modules/@typescript/typescript-${process.platform}-${process.arch}/package.json`;
  const candidates = existsSync(at(native)) ? ['typescript', 'typescript-js'] : ['typescript-js'];
  return candidates.map((name) => at(`node_modules/${name}/lib/tsc.js`)).find((path) => existsSync(path));
}

/** Without it, where its binary is not installed (`--omit=optional`), everything works; a start takes a second longer. */
async function bundle(module) {
  try {
    const esbuild = await import('esbuild');
    const file = at(`dist/src/${module}.js`);
    const options = {
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      logLevel: 'silent',
      write: false,
    };
    const { outputFiles } = await esbuild.build({ entryPoints: [at(`src/${module}.ts`)], ...options });
    // A service of this build may be starting just now: it finds the old file or the new one, never half of it.
    writeFileSync(`${file}.new`, outputFiles[0].contents);
    renameSync(`${file}.new`, file);
  } catch (error) {
    const [reason] = String(error).split('\n');
    console.error(`build: ${module} is not bundled, a start takes a second longer: ${reason}`);
  }
}

const SCAN_SOURCES = 'src/workers/encoder/scan';
const SCAN_OPTIONS = [
  '--runtime',
  'stub',
  '--optimizeLevel',
  '3',
  '--shrinkLevel',
  '0',
  '--noAssert',
  '--enable',
  'simd',
];

/** Undefined where it is not installed (`npm ci --omit=dev`). */
async function findScanCompiler() {
  try {
    return (await import('assemblyscript/asc')).default;
  } catch (error) {
    if (error.code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** Only where it is missing or older than its sources: the compiler takes two seconds. False where it cannot be had. */
async function compileScan() {
  const file = at('dist/src/workers/encoder/scan.wasm');
  const names = readdirSync(at(SCAN_SOURCES)).filter((name) => name.endsWith('.ts'));
  const sources = [...names.map((name) => at(`${SCAN_SOURCES}/${name}`)), at('scripts/build.js')];
  const changedMs = Math.max(...sources.map((path) => statSync(path).mtimeMs));
  if (existsSync(file) && statSync(file).mtimeMs >= changedMs) return true;
  const compiler = await findScanCompiler();
  if (compiler === undefined) {
    const isThere = existsSync(file);
    console.error(
      `build: assemblyscript is not installed, ${isThere ? 'scan.wasm stays as it is' : 'run npm ci first'}`,
    );
    return isThere;
  }
  const output = ['--baseDir', at(''), '--outFile', 'dist/src/workers/encoder/scan.wasm.new'];
  const { error } = await compiler.main([`${SCAN_SOURCES}/index.ts`, ...output, ...SCAN_OPTIONS], {
    stderr: process.stderr,
  });
  if (error !== null) {
    console.error(`build: ${SCAN_SOURCES} does not compile: ${error.message}`);
    return false;
  }
  // A service of this build may be starting just now: it finds the old file or the new one.
  renameSync(`${file}.new`, file);
  return true;
}

async function build() {
  const compiler = findCompiler();
  if (compiler === undefined) {
    if (existsSync(at('dist/src/cli/penstock.js'))) return 0;
    console.error('build: no compiler is installed and dist/ is empty; run npm ci (without --omit=dev) first');
    return 1;
  }
  const { status, error } = spawnSync(process.execPath, [compiler, '-p', at('tsconfig.json')], { stdio: 'inherit' });
  if (error !== undefined) throw error;
  if (status !== 0) return status ?? 1;
  if (!(await compileScan())) return 1;
  await bundle('shared/typebox');
  mkdirSync(at('dist/assets'), { recursive: true });
  for (const file of ASSETS) copyFileSync(at(`node_modules/swagger-ui-dist/${file}`), at(`dist/assets/${file}`));
  return 0;
}

process.exitCode = await build();
