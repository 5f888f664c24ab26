// Colours: two palettes, each for light and dark surroundings, mixed in OKLab so that equal steps
// of a value look equally far apart. Blue and orange stay apart for every kind of colour vision;
// nothing (0) has the colour of the page, so that what stands out is what is there.
// OKLab: Ottosson (2020), "A perceptual color space for image processing".

// Lightness, chroma and hue of the anchors, at even distances from low to high.
const ANCHORS = {
  light: {
    diverging: [
      [0.36, 0.13, 262], [0.56, 0.14, 252], [0.79, 0.075, 245], [0.985, 0.0, 250],
      [0.8, 0.095, 62], [0.6, 0.145, 48], [0.41, 0.115, 38],
    ],
    sequential: [
      [0.985, 0.004, 110], [0.88, 0.065, 150], [0.72, 0.095, 185], [0.53, 0.1, 225],
      [0.37, 0.1, 262], [0.24, 0.075, 285],
    ],
  },
  dark: {
    diverging: [
      [0.9, 0.065, 225], [0.71, 0.125, 242], [0.46, 0.1, 255], [0.2, 0.006, 260],
      [0.47, 0.09, 50], [0.7, 0.13, 58], [0.9, 0.085, 78],
    ],
    sequential: [
      [0.2, 0.008, 270], [0.34, 0.09, 275], [0.5, 0.1, 240], [0.67, 0.105, 190],
      [0.82, 0.13, 145], [0.95, 0.1, 108],
    ],
  },
};
const NO_VALUE = { light: [0.72, 0.19, 340], dark: [0.62, 0.2, 340] };

function lab([lightness, chroma, hue]) {
  const angle = (hue * Math.PI) / 180;
  return [lightness, chroma * Math.cos(angle), chroma * Math.sin(angle)];
}

function rgb([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((linear) => {
    const x = clamp(linear, 0, 1);
    return Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
  });
}

function ramp(anchors) {
  const points = anchors.map(lab);
  return span(255).map((i) => {
    const place = (i / 254) * (points.length - 1);
    const k = Math.min(Math.floor(place), points.length - 2);
    return rgb(points[k].map((from, c) => from + (place - k) * (points[k + 1][c] - from)));
  });
}

const RAMPS = Object.fromEntries(
  Object.entries(ANCHORS).map(([theme, kinds]) => [
    theme,
    Object.fromEntries(Object.entries(kinds).map(([kind, anchors]) => [kind, ramp(anchors)])),
  ])
);

/** Which palette an array is drawn with. */
const rampKind = (scale) =>
  scale === "diverging" || scale === "symmetric" ? "diverging" : "sequential";

const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const packed = ([r, g, b]) =>
  littleEndian ? (255 << 24) | (b << 16) | (g << 8) | r : (r << 24) | (g << 16) | (b << 8) | 255;

/** Colours of the 256 codes whose numbers lie in [low, high], for a palette from `from` to `to`. */
function lookup(theme, kind, [low, high], [from, to]) {
  const colours = RAMPS[theme][kind];
  const table = new Uint32Array(256);
  for (let code = 0; code < 255; code++) {
    const value = low + (code * (high - low)) / 254;
    const share = to > from ? (value - from) / (to - from) : 0.5;
    table[code] = packed(colours[Math.round(254 * clamp(share, 0, 1))]);
  }
  table[MISSING] = packed(rgb(lab(NO_VALUE[theme])));
  return table;
}

/** One number's colour, and black or white, whichever can be read on it. */
function colourOf(theme, kind, value, [from, to]) {
  if (Number.isNaN(value)) return null;
  const share = clamp(to > from ? (value - from) / (to - from) : 0.5, 0, 1);
  const [r, g, b] = RAMPS[theme][kind][Math.round(254 * share)];
  const light = 0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2;
  return { fill: `rgb(${r} ${g} ${b})`, ink: light > 0.3 ? "#111418" : "#ffffff" };
}

/** A palette as a CSS background, for legends. */
const gradientCss = (theme, kind) =>
  `linear-gradient(to right, ${span(11)
    .map((i) => `rgb(${RAMPS[theme][kind][Math.round(25.4 * i)].join(" ")})`)
    .join(", ")})`;

// Lines: the colours of Okabe and Ito (2008), told apart by dashes too.
const LINES = {
  light: ["#1b1e23", "#0072b2", "#d55e00", "#008562", "#b0568c", "#b07900", "#3d8fc4", "#6b6f76"],
  dark: ["#f1f2f4", "#5db4ea", "#ff9440", "#2ec79c", "#e59ac6", "#f0c04a", "#9fd0f2", "#a3a8b1"],
};
const DASHES = [[], [], [6, 3], [2, 2], [8, 2, 2, 2], [4, 2], [1, 3], [10, 4]];
