// Draws a chart into every element with data-spec, the address of its spec. It becomes part of the bundle (bundle.py), which
// knows vegaEmbed. Colours and font are the page's own, so that charts fit light and dark.

function look(place) {
  const { color, fontFamily } = getComputedStyle(place);
  const axis = { labelColor: color, titleColor: color, domainColor: color, tickColor: color, domainOpacity: 0.4, tickOpacity: 0.4 };
  return {
    background: "transparent",
    font: fontFamily,
    axis: { ...axis, gridColor: color, gridOpacity: 0.15 },
    legend: { labelColor: color },
  };
}

async function draw(place, tries = 3) {
  try {
    await vegaEmbed(place, place.dataset.spec, {
      ast: true, // no eval, which the content security policy forbids
      actions: false,
      defaultStyle: false,
      tooltip: { disableDefaultStyle: true },
      renderer: "svg",
      config: look(place),
    });
  } catch (error) {
    if (tries > 1) {
      setTimeout(draw, 1000, place, tries - 1); // the network may be back in a second
    } else {
      place.textContent = place.dataset.failed;
    }
  }
}

function drawAll() {
  document.querySelectorAll("[data-spec]").forEach((place) => draw(place));
}

drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
