// arithmatex leaves \(..\) and \[..\] in elements of the class "arithmatex"; MathJax reads only these
window.MathJax = {
  options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false },
};
