"""What the browser tests try the page with: a PDF, and texts that would do something if they were read as HTML."""

import io

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MORE_WORDS = "how many days of annual leave does the guild grant to deck crew what which harbour secret excess flood"
SENTENCE = "The guild grants 27 days of annual leave to deck crew."


def handbook() -> bytes:
    """Return a PDF of two pages; SENTENCE stands low on the second."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4)
    canvas.setFont("Helvetica", 12)
    canvas.drawString(60, 780, "Handbook of the guild")
    canvas.drawString(60, 740, "The harbour is closed on the first day of May.")
    canvas.showPage()
    canvas.setFont("Helvetica", 12)
    canvas.drawString(60, 780, "Annual leave")
    canvas.drawString(60, 200, SENTENCE)
    canvas.drawString(60, 160, "Shore staff have what their contract says.")
    canvas.save()
    return out.getvalue()


_DO = "window.hit=1"
PAYLOADS = [
    template.replace("DO", _DO)
    for template in (
        "<script>DO</script>",
        "<SCRIPT SRC=data:text/javascript,DO></SCRIPT>",
        "<img src=x onerror=DO>",
        '<img src=x onerror="DO">',
        "<IMG SRC=javascript:DO>",
        "<svg onload=DO>",
        "<svg><script>DO</script></svg>",
        "<svg><animate onbegin=DO attributeName=x dur=1s>",
        '<svg><a xlink:href="javascript:DO"><text>x</text></a></svg>',
        "<body onload=DO>",
        '<iframe src="javascript:DO"></iframe>',
        '<iframe srcdoc="<script>parent.hit=1</script>"></iframe>',
        '<object data="javascript:DO"></object>',
        '<embed src="javascript:DO">',
        '<a href="javascript:DO">x</a>',
        '<a href="data:text/html,<script>DO</script>">x</a>',
        '<form action="javascript:DO"><button>x</button></form>',
        "<input autofocus onfocus=DO>",
        "<select autofocus onfocus=DO>",
        "<textarea autofocus onfocus=DO>",
        '<button formaction="javascript:DO">x</button>',
        "<video src=x onerror=DO>",
        "<video><source onerror=DO></video>",
        "<audio src=x onerror=DO>",
        "<details open ontoggle=DO>",
        "<marquee onstart=DO>",
        '<div onmouseover=DO style="position:fixed;inset:0">x</div>',
        "<style>@import 'data:text/css,*{}';</style>",
        "<style>*{background:url(javascript:DO)}</style>",
        '<link rel=stylesheet href="data:text/css,*{display:none}">',
        '<link rel=import href="data:text/html,<script>DO</script>">',
        '<meta http-equiv=refresh content="0;url=javascript:DO">',
        '<base href="//evil.example/">',
        "<math><mtext></form><form><mglyph><style></math><img src onerror=DO>",
        '<table background="javascript:DO">',
        "<template><script>DO</script></template>",
        '<noscript><p title="</noscript><img src=x onerror=DO>">',
        "</textarea><script>DO</script>",
        "</title><script>DO</script>",
        "</script><script>DO</script>",
        "--><script>DO</script>",
        "]]><script>DO</script>",
        "'><script>DO</script>",
        '"><script>DO</script>',
        '" onmouseover=DO x="',
        "' autofocus onfocus=DO x='",
        "`><img src=x onerror=DO>",
        "javascript:DO",
        "data:text/html;base64,PHNjcmlwdD53aW5kb3cuaGl0PTE8L3NjcmlwdD4=",
        "{{constructor.constructor('DO')()}}",
        "${DO}",
        "<%= DO %>",
        "&lt;script&gt;DO&lt;/script&gt;",
        "&#60;script&#62;DO&#60;/script&#62;",
        "\\u003cscript\\u003eDO\\u003c/script\\u003e",
        "%3Cscript%3EDO%3C/script%3E",
        "<scr<script>ipt>DO</scr</script>ipt>",
        "<img/src=x/onerror=DO//",
        "<x onclick=DO tabindex=1 autofocus onfocus=DO>",
        '[x](javascript:DO) ![x](x"onerror="DO)',
    )
]
