"""Words that carry a sentence but no subject, by language: they say nothing about where an answer stands.

Question words are among them. Written for this project; languages without an entry keep all words.
"""

from __future__ import annotations

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    code: frozenset(text.split())
    for code, text in {
        "en": "a about am an and any are as at be been being but by can could did do does doing for from had has have "
        "having he her his how i if in into is it its itself me my of on or our please shall she should so such that "
        "the their them then there these they this those to was we were what when where which who whom whose why will "
        "with would you your s t",
        "de": "aber als am an auf aus bei bin bis bist da damit das dass dem den der des die dies diese dieser du durch "
        "ein eine einem einen einer eines er es für hat hatte ich ihr im in ist kann man mein mit muss nach oder sein "
        "seine sich sie sind so soll über um und uns unser unter vom von vor wann war waren warum was welche welcher "
        "welches wem wen wenn wer wie wir wird wo wurde zu zum zur",
        "es": "a al algo ante cómo como con cuál cual cuáles cuándo cuando cuánto cuánta cuántos cuántas de del desde "
        "dónde donde durante e el ella en entre era es esa ese esta este está están fue fueron ha hay la las le les lo "
        "los más me mi mis no nos o para pero por porque qué que quién quien quiénes se ser si sí sobre son su sus "
        "también tiene tu un una uno unos unas y yo",
        "fr": "à au aux avec ce ces cet cette comment combien d dans de des du elle elles en entre est et eu il ils j "
        "je l la le les leur leurs lui ma mais me mes mon n ne nos notre nous on ou où par pas pour pourquoi qu quand "
        "que quel quelle quels quelles qui quoi s sa se ses son sont sur ta te tes ton tu un une vos votre vous y",
        "it": "a ad ai al alla alle allo anche c che chi ci come con cosa d da dai dal dalla dei del della delle dello "
        "di dove e è ed era gli ha hanno i il in io l la le lei lo loro lui ma mi mio ne nei nel nella non o per perché "
        "più qual quale quali quando quanto quanti quante se si sono su sua sue sui sul sulla suo tra tu un una uno",
        "nl": "aan als bij dat de deze die dit door een en er ervan hij hoe hoeveel het hun ik in is je kan maar me met "
        "mijn na naar niet of om onder ons ook op over te tot u uit van vanaf voor waar waarom wanneer was wat we welk "
        "welke werd wie wij wordt zal ze zich zij zijn zonder",
        "pt": "a ao aos as à às com como d da das de do dos e é ela elas ele eles em entre era essa esse esta este foi "
        "foram há isso mas me meu minha na nas no nos não o onde os ou para pela pelas pelo pelos por porque qual quais "
        "quando quanto quanta quantos quantas que quem se sem ser seu são sobre sua suas seus também tem um uma você",
        "hi": "और का की के को में से है हैं था थी थे पर ने यह वह ये वे इस उस इन उन एक क्या कौन किस कब कहाँ कहां कैसे क्यों कितना कितनी "
        "कितने किसने किसे जो तो ही भी कि या हो होता होती होते किया गया गई गए द्वारा लिए साथ अपने अपनी अपना नहीं तक",
    }.items()
}
