/**
 * What we use of TypeBox, in one place: the build turns this module into one file (scripts/build.js), where the library's
 * hundreds would take each thread half a second to load.
 */
export { Type, type Static, type TSchema } from 'typebox';
export { Compile, type Validator } from 'typebox/compile';
