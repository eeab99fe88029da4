# FcgiParam has the last word on a variable, and paths are the application's.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

# Stopped all at once at the end, as each takes a second.
my @servers;

my $app = FcgiApp->start(sub {
    my ($c) = @_;
    my $request = $c->read_request or return;
    my $params = $request->{params};
    $c->reply("Content-Type: text/plain\r\n\r\n"
              . join '', map { "$_=$params->{$_}\n" } sort keys %$params);
});
my %vars = (APP => $app->handler);

# The variables of a URL; empty if the status is not 200.
sub params {
    my ($httpd, $url, %headers) = @_;
    my $answer = Client->get($httpd->port, $url, %headers);
    return $answer->status == 200
        ? { $answer->body =~ /^(\w+)=(.*)$/mg } : {};
}

# What variables are, with a dash for those not sent.
sub values_of {
    my ($params, @names) = @_;
    return join ' ', map { $params->{$_} // '-' } @names;
}

subtest 'set, override, unset' => sub {
    my $httpd = Httpd->start(
        modules => ['rewrite'], vars => \%vars, files => { 'a.x' => '' },
        env => { PASSED => 'passed' }, config => <<'EOC');
AddHandler @APP@ .x
PassEnv PASSED
SetEnv BY_SETENV setenv
SetEnv SEEN "of SetEnv"
SetEnvIf Host . BY_SETENVIF=setenvif
RewriteEngine On
RewriteRule . - [E=BY_RULE:rule]

FcgiParam NEW "a value"
FcgiParam EMPTY ""
FcgiParam word value
FcgiParam _UNDER_9 x
FcgiParam TRICKY "a; b=c, \"d\" 'e' & <f>"
FcgiParam BY_SETENV "param"
FcgiParam BY_SETENVIF "param"
FcgiParam BY_RULE "param"
FcgiParam PASSED "param"
FcgiParam SERVER_NAME "other.test"
FcgiParam HTTPS "on"
FcgiParam REQUEST_URI "/changed"
FcgiParam SCRIPT_FILENAME "/changed.x"
FcgiParam CONTENT_LENGTH "0"
FcgiParam GATEWAY_INTERFACE "none"
FcgiParam HTTP_X_SET "param"
FcgiParam !HTTP_X_UNSET
FcgiParam !SERVER_SOFTWARE
FcgiParam !NOT_THERE

# expressions
FcgiParam HOST_AND_URI "%{HTTP_HOST} %{REQUEST_URI}"
FcgiParam FROM_HEADER "<%{HTTP:X-Some}>"
FcgiParam FROM_ENV "%{reqenv:SEEN}"
FcgiParam LOWER "%{tolower:ABC}"
FcgiParam FROM_PARAM "%{reqenv:NEW}"

# conditions
FcgiParam YES "yes" "expr=%{HTTP:X-Some} == 'some'"
FcgiParam NO "no" "expr=%{HTTP:X-Some} != 'some'"
FcgiParam UPPER "yes" "EXPR=true"
FcgiParam !HTTP_X_IF_YES "expr=%{HTTP:X-Some} == 'some'"
FcgiParam !HTTP_X_IF_NO "expr=%{HTTP:X-Some} != 'some'"
FcgiParam ON_VALUE "expr=x" "expr=true"

# what the condition's pattern has found
FcgiParam FOUND "<$2 $1 $0>" "expr=%{HTTP:X-Some} =~ /(s)o(.*)/"
FcgiParam FOUND_NOT "<$1>" "expr=%{HTTP:X-Some} !~ /(x)/"
FcgiParam FOUND_LESS "<$1$9>" "expr=%{HTTP:X-Some} =~ /some/"
FcgiParam FOUND_EITHER "<$1>" "expr=%{HTTP:X-Some} =~ /(z)/ || %{HTTP:X-Some} =~ /(om)/"
FcgiParam NEXT_ONE "<$1>" "expr=true"
FcgiParam NO_CONDITION "<$1>"

# one after the other
FcgiParam TWICE "one"
FcgiParam TWICE "two"
FcgiParam GONE "one"
FcgiParam !GONE
FcgiParam !BACK
FcgiParam BACK "back"
FcgiParam GROWS "a"
FcgiParam GROWS "%{reqenv:GROWS}b"
EOC
    my $params = params($httpd, '/a.x?q', Host => 'the.host',
        'X-Some' => 'some', 'X-Set' => 'client', 'X-Unset' => 'client',
        'X-If-Yes' => 'client', 'X-If-No' => 'client');
    my %expected = (
        NEW => 'a value', EMPTY => '', word => 'value', _UNDER_9 => 'x',
        TRICKY => q(a; b=c, "d" 'e' & <f>),
        (map { $_ => 'param' } qw(BY_SETENV BY_SETENVIF BY_RULE PASSED
                                  HTTP_X_SET)),
        SERVER_NAME => 'other.test', HTTPS => 'on',
        REQUEST_URI => '/changed', SCRIPT_FILENAME => '/changed.x',
        CONTENT_LENGTH => '0', GATEWAY_INTERFACE => 'none',
        (map { $_ => undef } qw(HTTP_X_UNSET SERVER_SOFTWARE NOT_THERE NO
                                HTTP_X_IF_YES GONE)),
        SEEN => 'of SetEnv', HOST_AND_URI => 'the.host /a.x',
        FROM_HEADER => '<some>', FROM_ENV => 'of SetEnv', LOWER => 'abc',
        FROM_PARAM => 'a value', YES => 'yes', UPPER => 'yes',
        FOUND => '<me s some>', FOUND_EITHER => '<om>',
        (map { $_ => '<>' } qw(FOUND_NOT FOUND_LESS NEXT_ONE NO_CONDITION)),
        HTTP_X_IF_NO => 'client', ON_VALUE => 'expr=x', TWICE => 'two',
        BACK => 'back', GROWS => 'ab', SCRIPT_NAME => '/a.x',
        QUERY_STRING => 'q');
    is($params->{$_}, $expected{$_}, $_) for sort keys %expected;

    $params = params($httpd, '/a.x', 'X-Some' => 'other',
                     'X-If-Yes' => 'client', 'X-If-No' => 'client');
    is(values_of($params, qw(YES NO HTTP_X_IF_YES HTTP_X_IF_NO)),
       '- no client -', 'the other way round');
    is(params($httpd, '/a.x')->{FROM_HEADER}, '<>', 'a header not there');
    push @servers, $httpd;
};

# Each place adds its name.
my $ADD = sub { "FcgiParam TRACE \"%{reqenv:TRACE}$_[0] \"" };

subtest '.htaccess first; the outer first, the inner last' => sub {
    my $httpd = Httpd->start(vars => \%vars, files => {
        (map { ("$_/a.x" => '') } '.', 'dir', 'dir/sub', 'other'),
        'dir/.htaccess' => $ADD->('ht') . "\n<Files a.x>\n"
            . $ADD->('ht-files') . "\n</Files>\n<If true>\n"
            . $ADD->('ht-if') . "\n</If>\n",
        'dir/sub/.htaccess' => "FcgiParam INNER from-htaccess\n"
            . "FcgiParam ALONE from-htaccess\n"
            . $ADD->('sub-ht') . "\nFcgiParam !OUTER" },
        config => join "\n", 'AddHandler @APP@ .x', $ADD->('server'),
            'FcgiParam OUTER server', 'FcgiParam INNER server',
            '<Directory @DOCROOT@/dir>', $ADD->('dir'), $ADD->('dir-again'),
            '</Directory>', '<Directory @DOCROOT@/dir/sub>', $ADD->('sub'),
            '</Directory>', '<Files a.x>', $ADD->('files'), '</Files>',
            '<Location /dir/sub>', $ADD->('location'), '</Location>',
            '<If true>', $ADD->('if'), '</If>',
            '<VirtualHost *>', 'ServerName plain', '</VirtualHost>',
            '<VirtualHost *>', 'ServerName host', $ADD->('vhost'),
            'FcgiParam INNER vhost', '<Directory @DOCROOT@/other>',
            $ADD->('vhost-dir'), '</Directory>', '</VirtualHost>');
    my $trace = sub {
        my ($host, $url) = @_;
        return params($httpd, $url, Host => $host)->{TRACE} =~ s/ $//r;
    };
    is($trace->('plain', '/a.x'), 'server files if', 'the main server');
    is($trace->('host', '/a.x'), 'server vhost files if', 'a virtual host');
    is($trace->('plain', '/other/a.x'), 'server files if',
       'not the other virtual host');
    is($trace->('host', '/other/a.x'), 'server vhost vhost-dir files if',
       'a directory in it');
    is($trace->('plain', '/dir/a.x'),
       'ht ht-files ht-if server dir dir-again files if', '.htaccess');
    is($trace->('host', '/dir/sub/a.x'),
       'ht sub-ht ht-files ht-if server vhost dir dir-again sub files location '
       . 'if', 'all of them');
    is(values_of(params($httpd, '/dir/sub/a.x', Host => 'host'),
                 'INNER', 'OUTER', 'ALONE'), 'vhost server from-htaccess',
       'the innermost of the server wins, and after it that of .htaccess');
    is(values_of(params($httpd, '/a.x', Host => 'host'), 'INNER', 'OUTER'),
       'vhost server', 'only there');
    is($trace->('host', '/a.x'), 'server vhost files if',
       'nothing stays from request to request');
    push @servers, $httpd;
};

# What a .htaccess file may say to get a variable past the server's FcgiParam.
my %PAST = (
    'SetEnv' => 'SetEnv PHP_ADMIN_VALUE x',
    'SetEnv, another spelling' => 'SetEnv PHP-ADMIN-VALUE x',
    'SetEnv, two spellings' =>
        "SetEnv PHP-ADMIN-VALUE x\nSetEnv PHP.ADMIN.VALUE y",
    'SetEnv, lower case' => 'SetEnv php_admin_value x',
    'SetEnv, lower case and another spelling' => 'SetEnv php-admin-value x',
    'SetEnvIf' => 'SetEnvIf Host . PHP-ADMIN-VALUE=x',
    'a rule' => "RewriteEngine On\nRewriteRule . - [E=PHP-ADMIN-VALUE:x]",
    'FcgiParam' => 'FcgiParam PHP_ADMIN_VALUE x',
    'FcgiParam in Files' =>
        "<Files a.x>\nFcgiParam PHP_ADMIN_VALUE x\n</Files>",
    'FcgiParam in If' => "<If true>\nFcgiParam PHP_ADMIN_VALUE x\n</If>",
    'FcgiParam in Else' => "<If false>\n</If>\n<Else>\n"
        . "FcgiParam PHP_ADMIN_VALUE x\n</Else>",
    'FcgiParam in If in Files' => "<Files a.x>\n<If true>\n"
        . "FcgiParam PHP_ADMIN_VALUE x\n</If>\n</Files>",
    'FcgiParam, lower case' => 'FcgiParam php_admin_value x',
    'FcgiParam with !' => 'FcgiParam !PHP_ADMIN_VALUE',
);
# Where the server says what holds.
my @PLACES = ('', 'Directory @DOCROOT@', 'Files a.x', 'Location /', 'If true');

subtest "the server's FcgiParam has the last word" => sub {
    my (%files, $hosts);
    my $place = sub { lc $_[0] =~ s/\W+/-/gr };
    $files{$place->($_) . '/a.x'} = '',
        $files{$place->($_) . '/.htaccess'} = $PAST{$_} for keys %PAST;
    for my $i (0 .. $#PLACES) {
        my ($section) = $PLACES[$i] =~ /^(\w+)/;
        my ($open, $end) = $section ? ("<$PLACES[$i]>", "</$section>")
            : ('', '');
        $hosts .= "<VirtualHost *>\nServerName away$i\n$open\n"
            . "FcgiParam !PHP_ADMIN_VALUE\n$end\n</VirtualHost>\n"
            . "<VirtualHost *>\nServerName set$i\n$open\n"
            . "FcgiParam PHP_ADMIN_VALUE good\n$end\n</VirtualHost>\n";
    }
    my $httpd = Httpd->start(
        vars => \%vars, modules => ['rewrite'], files => \%files,
        config => "AddHandler \@APP@ .x\n$hosts");
    for my $way (sort keys %PAST) {
        for my $i (0 .. $#PLACES) {
            my $name = "$way, in " . ($PLACES[$i] || 'the server');
            my $url = '/' . $place->($way) . '/a.x';
            my $params = params($httpd, $url, Host => "away$i");
            is_deeply([grep { /^php.admin.value$/i } keys %$params], [],
                      "$name: it is not there");
            ok($params->{SCRIPT_NAME}, 'but others are');
            $params = params($httpd, $url, Host => "set$i");
            is(join(' ', map { "$_=$params->{$_}" }
                    grep { /^php.admin.value$/i } keys %$params),
               'PHP_ADMIN_VALUE=good', "$name: it is the server's");
        }
    }
    push @servers, $httpd;
};

subtest 'FcgiParam in .htaccess' => sub {
    my $httpd = Httpd->start(
        vars => \%vars, config => <<'EOC',
AddHandler @APP@ .x
FcgiParam FILE "%{file:@ROOT@/mime.types}"
<Directory @DOCROOT@/none>
  AllowOverride AuthConfig
</Directory>
EOC
        files => { (map { ("$_/a.x" => '') } qw(ok wrong file none)),
                   'ok/.htaccess' => 'FcgiParam X %{HTTP_HOST}',
                   'wrong/.htaccess' => 'FcgiParam X "%{HTTP_HOST"',
                   'none/.htaccess' => 'FcgiParam X x',
                   'file/.htaccess' =>
                       'FcgiParam X "%{file:@ROOT@/mime.types}"' });
    is(params($httpd, '/ok/a.x', Host => 'x.test')->{X}, 'x.test',
       'an expression');
    like(params($httpd, '/ok/a.x')->{FILE}, qr/html/,
         "a file's text in the server's own configuration");
    my $before = $app->connections;
    is(Client->get($httpd->port, "/$_/a.x")->status, 500, $_)
        for qw(wrong file none);
    is($app->connections, $before, 'nobody is asked');
    my $log = $httpd->error_log;
    like($log, qr/wrong\/\.htaccess: FcgiParam: '.*' is not an expression:/,
         'a wrong one');
    like($log, qr/file\/\.htaccess: FcgiParam: '.*' is not an expression:/,
         "a file's text is not for .htaccess");
    like($log, qr/none\/\.htaccess: FcgiParam not allowed here/,
         'only with AllowOverride FileInfo');
    push @servers, $httpd;
};

subtest 'an expression that fails' => sub {
    my $httpd = Httpd->start(
        vars => \%vars, files => {
            'a.x' => '', 'ht/a.x' => '',
            'ht/.htaccess' => "SetEnv SEEN evil\nFcgiParam NEW evil\n",
        }, config => <<'EOC');
AddHandler @APP@ .x
SetEnv SEEN before
FcgiParam SEEN "%{file:@ROOT@/none}"
FcgiParam NEW "%{file:@ROOT@/none}"
FcgiParam NEXT next
EOC
    is(values_of(params($httpd, '/a.x'), qw(SEEN NEW NEXT)), '- - next',
       'takes its variable away, and leaves the others');
    ok($httpd->wait_for_log(qr/FCGI24: FcgiParam SEEN: .*FCGI24: .* NEW: /s),
       'the log says it of each');
    is(values_of(params($httpd, '/ht/a.x'), qw(SEEN NEW)), '- -',
       'also what a .htaccess file says');
    push @servers, $httpd;
};

my @PATHS = qw(SCRIPT_FILENAME DOCUMENT_ROOT PATH_TRANSLATED);

# The three paths of a URL, without the ROOT of this test's httpd.
sub paths {
    my ($httpd, $url, %headers) = @_;
    my $root = $httpd->root;
    return values_of(params($httpd, $url, %headers), @PATHS)
        =~ s/\Q$root\E/ROOT/gr;
}

# CONTEXT_DOCUMENT_ROOT.
sub context {
    my ($httpd, $url, %headers) = @_;
    my $root = $httpd->root;
    return values_of(params($httpd, $url, %headers), 'CONTEXT_DOCUMENT_ROOT')
        =~ s/\Q$root\E/ROOT/gr;
}

subtest 'FcgiDocumentRoot' => sub {
    my $httpd = Httpd->start(
        vars => \%vars, modules => ['actions'],
        files => { (map { ("$_/a.x" => '') }
                        '.', 'off', 'slash', 'top', 'real', 'inner',
                        'inner/off', '../docs2', '../outside', 'param',
                        'wanted'),
                   'x.act' => '', '../docs2/x.act' => '',
                   'ht/a.x' => '', 'ht/.htaccess' => 'FcgiDocumentRoot /h' },
        config => <<'EOC');
AddHandler @APP@ .x
FcgiDocumentRoot /app/public
Alias /docs2 @ROOT@/docs2
Alias /outside @ROOT@/outside
Alias /sub @DOCROOT@/inner
Alias /linked @ROOT@/link
<Directory @ROOT@>
  Require all granted
</Directory>
<Location /virtual>
  SetHandler @APP@
</Location>
AddHandler act .act
Action act /action
<Location /action>
  SetHandler @APP@
</Location>
<Directory @DOCROOT@/wanted>
  FcgiParam PATH_TRANSLATED "%{DOCUMENT_ROOT}%{PATH_INFO}" "expr=-n %{PATH_INFO}"
</Directory>
<Directory @DOCROOT@/off>
  FcgiDocumentRoot Off
</Directory>
<Directory @DOCROOT@/slash>
  FcgiDocumentRoot /with/slash//
</Directory>
<Directory @DOCROOT@/top>
  FcgiDocumentRoot /
</Directory>
<Directory @DOCROOT@/real>
  FcgiDocumentRoot real
</Directory>
<Directory @DOCROOT@/inner>
  FcgiDocumentRoot "/inner path"
</Directory>
<Directory @DOCROOT@/inner/off>
  FcgiDocumentRoot off
</Directory>
<Directory @DOCROOT@/param>
  FcgiParam SCRIPT_FILENAME "at %{reqenv:SCRIPT_FILENAME}"
</Directory>
<Location /inner>
  FcgiTimeout 5
</Location>
<VirtualHost *>
  ServerName localhost
</VirtualHost>
<VirtualHost *>
  ServerName host
  FcgiDocumentRoot /host
</VirtualHost>
<VirtualHost *>
  ServerName link
  FcgiDocumentRoot Real
</VirtualHost>
EOC
    symlink 'docs/inner', $httpd->root . '/link' or die $!;
    my @table = (
        '/a.x' => '/app/public/a.x /app/public -',
        '/a.x/y/z' => '/app/public/a.x /app/public -',
        '/off/a.x/y' => 'ROOT/docs/off/a.x ROOT/docs -',
        '/slash/a.x/y' => '/with/slash/slash/a.x /with/slash -',
        '/top/a.x/y' => '/top/a.x / -',
        '/real/a.x/y' => 'ROOT/docs/real/a.x ROOT/docs -',
        '/inner/a.x/y' =>
            '/inner path/inner/a.x /inner path -',
        '/inner/off/a.x' => 'ROOT/docs/inner/off/a.x ROOT/docs -',
        '/docs2/a.x' => 'ROOT/docs2/a.x /app/public -',
        '/docs2/a.x/y' => 'ROOT/docs2/a.x /app/public -',
        '/x.act' => '/app/public/action /app/public /app/public/x.act',
        '/docs2/x.act' => '/app/public/action /app/public ROOT/docs2/x.act',
        '/wanted/a.x/y' =>
            '/app/public/wanted/a.x /app/public ROOT/docs/y',
        '/wanted/a.x' => '/app/public/wanted/a.x /app/public -',
        '/outside/a.x' => 'ROOT/outside/a.x /app/public -',
        '/a.x/docs2' => '/app/public/a.x /app/public -',
        '/param/a.x' => 'at /app/public/param/a.x /app/public -',
        '/virtual/x' => '/app/public/virtual /app/public -',
    );
    while (my ($url, $expected) = splice @table, 0, 2) {
        is(paths($httpd, $url), $expected, $url);
    }
    # an Alias is a context of its own
    my %contexts = ('/a.x' => '/app/public', '/off/a.x' => 'ROOT/docs',
                    '/docs2/a.x' => 'ROOT/docs2', '/top/a.x' => '/',
                    '/sub/a.x' => '/inner path/inner',
                    '/virtual/x' => '/app/public', '/x.act' => '/app/public');
    is(context($httpd, $_), $contexts{$_}, "the context of $_")
        for sort keys %contexts;
    is(context($httpd, '/linked/a.x', Host => 'link'), 'ROOT/docs/inner',
       'Real follows the links of an Alias');
    is(context($httpd, '/a.x', Host => 'link'), 'ROOT/docs', 'or of none');
    is(context($httpd, '/linked/a.x'), 'ROOT/link', 'a path does not');
    is(paths($httpd, '/a.x/y', Host => 'host'), '/host/a.x /host -',
       'a virtual host');
    is(paths($httpd, '/a.x/y', Host => 'link'),
       'ROOT/docs/a.x ROOT/docs -', 'another with Real');
    is(paths($httpd, '/inner/a.x', Host => 'link'),
       '/inner path/inner/a.x /inner path -', 'and a path in a directory');
    is(Client->get($httpd->port, '/ht/a.x')->status, 500, '.htaccess');
    like($httpd->error_log, qr/\.htaccess: FcgiDocumentRoot not allowed here/,
         'may not say it');
    push @servers, $httpd;
};

# A site of releases: current is a link to one.
sub releases {
    my ($file, $text) = @_;
    my $site = Private::temp_dir('site');
    Private::spew("$site/releases/$_/public/$file", $text =~ s/N/$_/r)
        for 1, 2;
    Private::spew("$site/shared/$file", $text =~ s/N/shared/r);
    symlink "$site/shared/$file", "$site/releases/$_/public/shared-$file"
        or die for 1, 2;
    switch_to($site, 1);
    return $site;
}

sub switch_to {
    my ($site, $release) = @_;
    symlink "releases/$release", "$site/next" or die;
    rename "$site/next", "$site/current" or die;
    return;
}

my $RELEASES = <<'EOC';
DocumentRoot @SITE@/current/public
<Directory @SITE@>
  Options FollowSymLinks
  Require all granted
</Directory>
EOC

subtest 'FcgiDocumentRoot Real' => sub {
    my $site = releases('a.x', 'N');
    my $httpd = Httpd->start(
        vars => { %vars, SITE => "$site" },
        config => "$RELEASES\nAddHandler \@APP@ .x\n" . <<'EOC');
FcgiDocumentRoot Real
Alias /alias @SITE@/current
<Location /virtual>
  SetHandler @APP@
</Location>
<Location /off>
  FcgiDocumentRoot Off
</Location>
Alias /off @SITE@/current/public
EOC
    my $seen = sub { paths($httpd, @_) =~ s/\Q$site\E/SITE/gr };
    for my $n (1, 2) {
        switch_to($site, $n);
        my $public = "SITE/releases/$n/public";
        is($seen->('/a.x'), "$public/a.x $public -", "release $n");
        is($seen->('/a.x/y'), "$public/a.x $public -", 'PATH_INFO');
        is($seen->('/shared-a.x'), "SITE/shared/a.x $public -",
           'a file that is a link');
        is($seen->('/alias/public/a.x'), "$public/a.x $public -", 'an Alias');
        is($seen->('/virtual/y'), "$public/virtual $public -",
           'no file');
        is($seen->('/off/a.x'), 'SITE/current/public/a.x '
           . 'SITE/current/public -', 'Off');
    }
    push @servers, $httpd;
};

subtest 'PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    my $php = PhpFpm->start;
    my $text = "<?php echo 'N ', \$_SERVER['SCRIPT_FILENAME'], ' ', "
        . "\$_SERVER['DOCUMENT_ROOT'], ' ', \$_SERVER['SCRIPT_NAME'], ' ', "
        . "\$_SERVER['PATH_INFO'] ?? '-', ' ', "
        . "\$_SERVER['PATH_TRANSLATED'] ?? '-';\n";
    my $site = releases('a.php', $text);
    # PHP has other files at another place than httpd
    my $view = Private::temp_dir('view');
    Private::spew("$view/real/a.php", $text =~ s/N/view/r);
    symlink "$view/real", "$view/link" or die;
    my $httpd = Httpd->start(
        vars => { PHP => $php->handler, SITE => "$site", VIEW => "$view" },
        config => "$RELEASES\nAddHandler \@PHP@ .php\n" . <<'EOC');
<VirtualHost *>
  ServerName real
  FcgiDocumentRoot Real
</VirtualHost>
<VirtualHost *>
  ServerName view
  FcgiDocumentRoot @VIEW@/link
</VirtualHost>
EOC
    my $seen = sub {
        my ($host, $url) = @_;
        return Client->get($httpd->port, $url, Host => $host)->body
            =~ s/\Q$site\E/SITE/gr =~ s/\Q$view\E/VIEW/gr;
    };
    is($seen->('view', '/a.php'),
       'view VIEW/link/a.php VIEW/link /a.php - -', 'the files PHP has');
    is($seen->('view', '/a.php/x'),
       'view VIEW/link/a.php VIEW/link /a.php /x -', 'PATH_INFO');
    for my $n (1, 2) {
        switch_to($site, $n);
        my $public = "SITE/releases/$n/public";
        is($seen->('real', '/a.php'),
           "$n $public/a.php $public /a.php - -", "release $n");
    }
    push @servers, $httpd;
};

kill 'WINCH', map { $_->pid } @servers;
$_->ok_healthy for @servers;
done_testing;
