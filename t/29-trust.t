# A .htaccess file leads no request where the server's own files do not.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# fcgi_trust.c has the threat model.  Here alice writes .htaccess files with
# AllowOverride All, owns her folder and its links, and is a client, too; bob
# is who she must not reach.  And what administrators rely on goes on working.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Private;
use Test::More;

my $run = Private::temp_dir('trust');
my %app = map {
    my $name = $_;
    $name => FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request(5) or return;
        my $params = $request->{params};
        $c->reply("Content-Type: text/plain\r\n\r\n$name "
                  . ($params->{SCRIPT_NAME} // ''));
    }, transport => 'unix', socket => "$run/$name.sock");
} qw(alice bob);
# what MATCH_USER is
symlink 'alice.sock', "$run/match.sock" or die;
my @MODULES = qw(rewrite headers actions include authn_core authn_file
                 auth_basic authz_user);
my $HTPASSWD = "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n";    # password
my $AS_BOB = 'Basic ' . encode_base64('bob:password', '');

sub get {
    my ($httpd, $path, @fields) = @_;
    unshift @fields, 'Host: alice' if !grep { /^Host:/ } @fields;
    return Client->request($httpd->port, join "\r\n", "GET $path HTTP/1.1",
                           'Connection: close', @fields, '', '');
}

sub who { return $_[0]->body =~ s/ .*//sr }

# ---- what alice must not be able to do ----

# place => what the server's own configuration says of /place/
my %own = (
    host => 'SetHandler "fcgi:@RUN@/%{HTTP_HOST}.sock"',
    forwarded => 'SetHandler "fcgi:@RUN@/%{HTTP:X-Forwarded-Host}.sock"',
    variable => 'SetHandler "fcgi:@RUN@/%{env:BY_HOST}.sock"',
    if => "SetHandler \"fcgi:\@RUN@/alice.sock\"\n"
        . "<If \"%{HTTP_HOST} == 'bob'\">\n"
        . "SetHandler \"fcgi:\@RUN@/bob.sock\"\n</If>",
    'if-variable' => "SetHandler \"fcgi:\@RUN@/alice.sock\"\n"
        . "<If \"%{reqenv:POOL} == 'bob'\">\n"
        . "SetHandler \"fcgi:\@RUN@/bob.sock\"\n</If>",
    rule => 'SetHandler "fcgi:@RUN@/alice.sock"',
    match => 'SetHandler "fcgi:@RUN@/%{env:MATCH_USER}.sock"',
    user => 'SetHandler "fcgi:@RUN@/%{REMOTE_USER}.sock"',
    pool => 'SetHandler "fcgi:@RUN@/%{env:POOL}.sock"',
    plain => 'SetHandler "fcgi:@RUN@/alice.sock"',
    index => 'SetHandler "fcgi:@RUN@/%{env:POOL}.sock"',
    page => 'SetHandler "fcgi:@RUN@/%{env:POOL}.sock"',
    status => "<If \"%{HTTP_HOST} == 'bob'\">\nSetHandler fcgi-status\n"
        . '</If>',
);
$own{'page-if'} = $own{'if-variable'};

# place => header fields alice's requests have
my %fields = (forwarded => ['X-Forwarded-Host: alice'],
              user => ["Authorization: $AS_BOB"]);

my $TO_BOB = "RequestHeader set Host bob\nRequestHeader set "
    . "X-Forwarded-Host bob\n";
my $RULE = "RewriteEngine On\nRewriteRule ^go\$ i.x [L]\n";
my $SSI = "Options +Includes\nAddOutputFilter INCLUDES .shtml\n";

# name => [place, .htaccess, URL below /place/, more files].  WHERE is the
# place.
my %attacks = (
    'a field, then a RewriteRule' => ['host', $TO_BOB . $RULE, 'go'],
    'a field, then a RewriteRule with END' => [
        'host', $TO_BOB . ($RULE =~ s/\[L\]/[END]/r), 'go'],
    'a field, then an ErrorDocument' => [
        'host', $TO_BOB . "ErrorDocument 404 /WHERE/i.x", 'none'],
    'a field, then an ErrorDocument of a deeper folder' => [
        'host', "ErrorDocument 404 /WHERE/i.x", 'deep/none', {
            'deep/.htaccess' => $TO_BOB }],
    'a field, then an Action' => [
        'host', $TO_BOB . "AddHandler own .y\nAction own /WHERE/i.x", 'b.y',
        { 'b.y' => 'y' }],
    'a field, then a folder and its DirectoryIndex' => [
        'host', $TO_BOB . "DirectoryIndex i.x\nRewriteEngine On\n"
        . "RewriteRule ^go\$ deep/ [L]", 'go', { 'deep/i.x' => 'source' }],
    'a field, then a FallbackResource' => [
        'host', $TO_BOB . "FallbackResource /WHERE/i.x\nRewriteEngine On\n"
        . "RewriteRule ^go\$ none [L]", 'go'],
    'a field, then an include' => [
        'host', $TO_BOB . $SSI, 'p.shtml', {
            'p.shtml' => '<!--#include virtual="i.x" -->' }],
    'a field of an include' => [
        'host', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#include virtual="deep/go" -->',
            'deep/.htaccess' => $TO_BOB . $RULE,
            'deep/i.x' => 'source' }],
    'X-Forwarded-Host' => ['forwarded', $TO_BOB . $RULE, 'go'],
    'X-Forwarded-Host, ErrorDocument' => [
        'forwarded', $TO_BOB . "ErrorDocument 404 /WHERE/i.x", 'none'],
    'a field that SetEnvIf reads' => ['variable', $TO_BOB . $RULE, 'go'],
    'SetEnvIf' => ['variable', 'SetEnvIf Request_URI ^ BY_HOST=bob', 'i.x'],
    'a field that <If> reads' => ['if', $TO_BOB . $RULE, 'go'],
    'a field that a RewriteCond reads' => ['rule', $TO_BOB . $RULE, 'go'],
    'a name in FilesMatch' => [
        'match', "<FilesMatch \"(?<USER>bob)\">\n</FilesMatch>", 'bob.x',
        { 'bob.x' => 'source' }],
    'a name in FilesMatch, then a RewriteRule' => [
        'match', "<FilesMatch \"(?<USER>bob)\">\n</FilesMatch>\n"
        . "RewriteEngine On\nRewriteRule ^go\$ bob.x [L]", 'go',
        { 'bob.x' => 'source' }],
    'a password file of her own' => [
        'user', "AuthType Basic\nAuthName a\n"
        . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user", 'i.x'],
    'a password file of her own, in Files' => [
        'user', "<Files i.x>\nAuthType Basic\nAuthName a\n"
        . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user\n</Files>",
        'i.x'],
    'a password file of her own, in If' => [
        'user', "<If true>\nAuthType Basic\nAuthName a\n"
        . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user\n</If>",
        'i.x'],
    'a password file of her own, then a RewriteRule' => [
        'user', "AuthType Basic\nAuthName a\nAuthUserFile "
        . "\@DOCROOT@/htpasswd\nRequire valid-user\n$RULE", 'go'],
    'a password file for the DirectoryIndex' => [
        'user', "DirectoryIndex deep/i.x", '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => "AuthType Basic\nAuthName a\n"
            . "AuthUserFile \@DOCROOT@/htpasswd\nRequire valid-user" }],
    'a variable by SetEnvIf' => [
        'pool', 'SetEnvIf Request_URI ^ POOL=bob', 'i.x'],
    'a variable by SetEnv' => ['pool', 'SetEnv POOL bob', 'i.x'],
    'a variable of the folder of the DirectoryIndex' => [
        'pool', 'DirectoryIndex deep/i.x', '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => 'SetEnvIf Request_URI ^ POOL=bob' }],
    'a variable by a rule' => [
        'pool', "RewriteEngine On\nRewriteRule ^ - [E=POOL:bob]\n"
        . "DirectoryIndex i.x", ''],
    'a variable by SetEnv, then an include' => [
        'pool', "SetEnv POOL bob\n$SSI", 'p.shtml', {
            'p.shtml' => '<!--#include virtual="i.x" -->' }],
    'a variable of a page' => [
        'pool', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->' }],
    'a variable of a page that <If> reads' => [
        'if-variable', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->' }],
    'a variable of a folder that the server goes to' => [
        'index', undef, '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => 'SetEnvIf Request_URI ^ POOL=bob' }],
    'a handler in a folder that the server goes to' => [
        'index-none', undef, '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => 'AddHandler fcgi:bob .x' }],
    'a variable of a page, without any .htaccess' => [
        'page', undef, 'p.shtml', {
            'p.shtml' => '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->' }],
    'a variable of a page that <If> reads, without any .htaccess' => [
        'page-if', undef, 'p.shtml', {
            'p.shtml' => '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->' }],
    'the status page' => ['status', $TO_BOB . $RULE, 'go'],
    'SetHandler' => ['plain', 'SetHandler fcgi:@RUN@/bob.sock', 'i.x'],
    'SetHandler by name' => ['plain', 'SetHandler fcgi:bob', 'i.x'],
    'AddHandler' => [
        'none', 'AddHandler fcgi:@RUN@/bob.sock .x', 'i.x'],
    'AddType' => ['none', 'AddType fcgi:@RUN@/bob.sock .x', 'i.x'],
    'AddHandler for the DirectoryIndex' => [
        'none', "DirectoryIndex deep/i.x", '', { 'deep/i.x' => 'source',
            'deep/.htaccess' => 'AddHandler fcgi:bob .x' }],
    'RewriteRule with H' => [
        'plain', "RewriteEngine On\nRewriteRule ^ - [H=fcgi:bob]", 'i.x'],
    'SetHandler in If' => [
        'plain', "<If true>\nSetHandler fcgi:bob\n</If>", 'i.x'],
    'SetHandler in the .htaccess of an include' => [
        'plain', $SSI, 'p.shtml', {
            'p.shtml' => '<!--#include virtual="deep/i.x" -->',
            'deep/i.x' => 'source',
            'deep/.htaccess' => 'SetHandler fcgi:bob' }],
    'another in capitals' => [
        'capital', 'SetHandler fcgi:@RUN@/ALICE.sock', 'i.x'],
);

# The folder of an attack: the server's configuration is for each that begins
# with its place.
sub where {
    my ($place, $name) = @_;
    return $place . '_' . lc $name =~ s/\W+/-/gr;
}

sub files_of {
    my ($table) = @_;
    my %files = (htpasswd => $HTPASSWD, 'all.txt' => '');
    for my $name (keys %$table) {
        my ($place, $htaccess, undef, $more) = @{ $table->{$name} };
        my $where = where($place, $name);
        my %here = ('i.x' => 'source', $more ? %$more : (),
                    defined $htaccess ? ('.htaccess' => $htaccess) : ());
        $files{"$where/$_"} = $here{$_} =~ s/WHERE/$where/gr for keys %here;
    }
    return \%files;
}

my $CAPITAL = FcgiApp->start(sub {
    my ($c) = @_;
    $c->read_request(5) or return;
    $c->reply("Content-Type: text/plain\r\n\r\ncapital");
}, transport => 'unix', socket => "$run/ALICE.sock");

# All of bob's addresses are named here, each in its own way: that permits
# nothing to alice.
my $ELSEWHERE = <<'EOC';
FcgiBackend bob @RUN@/bob.sock max=20
<Location /nowhere>
  SetHandler fcgi:@RUN@/ALICE.sock
</Location>
<VirtualHost *>
  ServerName elsewhere
  SetHandler fcgi:bob
  AddHandler fcgi:bob .bob
</VirtualHost>
EOC

sub sections {
    my ($own) = @_;
    my $text = '';
    for my $place (sort keys %$own) {
        $text .= "<Directory \"\@DOCROOT@/${place}_*\">\n"
            . "<FilesMatch \"\\.x\$\">\n$own->{$place}\n</FilesMatch>\n"
            . "</Directory>\n";
    }
    return $text;
}

my $SERVER = <<'EOC';
SetEnvIf Host "(.*)" BY_HOST=$1
SetEnvIf Request_URI ^ POOL=alice
RewriteEngine On
RewriteCond %{HTTP_HOST} =bob
RewriteRule ^/rule_.*\.x$ - [H=fcgi:bob]
<DirectoryMatch "^@DOCROOT@/(?<user>match)_">
</DirectoryMatch>
<Directory @DOCROOT@>
  AllowOverride All
  AuthBasicProvider file
</Directory>
<Directory "@DOCROOT@/index*_*">
  DirectoryIndex deep/i.x
</Directory>
<Directory "@DOCROOT@/page*_*">
  Options +Includes
  AddOutputFilter INCLUDES .shtml
</Directory>
<Directory "@DOCROOT@/capital_*">
  SetHandler fcgi:@RUN@/alice.sock
</Directory>
<VirtualHost _default_:@PORT@>
  ServerName alice
  RewriteEngine On
  RewriteOptions Inherit
</VirtualHost>
EOC

# The attacks of a list of names, on a server with these sections.
sub attack {
    my ($own, @names) = @_;
    my $httpd = Httpd->start(
        modules => \@MODULES, vars => { RUN => $run },
        files => files_of({ map { $_ => $attacks{$_} } @names }),
        config => sections($own) . $ELSEWHERE . $SERVER);
    for my $name (@names) {
        my ($place, undef, $url) = @{ $attacks{$name} };
        my @before = map { $_->connections } $app{bob}, $CAPITAL;
        my $answer = get($httpd, '/' . where($place, $name) . "/$url",
                         @{ $fields{$place} // [] });
        my @after = map { $_->connections } $app{bob}, $CAPITAL;
        is("@after", "@before", "$name: nobody connects to bob")
            or diag $answer->raw;
        isnt(who($answer), $_, "nor is the answer $_\'s")
            for qw(bob capital);
        unlike($answer->body, qr/source/, 'nor the file') or diag $answer->raw;
        ok($answer->status >= 404
           || $answer->body =~ /^(?:alice|.*error\ occurred
                                 |.*Internal\ Server\ Error)/sx,
           'refused, or her own') or diag $answer->raw;
    }
    unlike($httpd->error_log, qr/FCGI(?!13|26|36)\d\d: /,
           'each refusal is FCGI13') or diag $httpd->error_log;
    $httpd->leave;
    return;
}

subtest 'attacks' => sub { attack(\%own, sort keys %attacks) };

subtest 'attacks where no handler has variables' => sub {
    my %fixed = map { ($_ => $own{$_}) }
        grep { $own{$_} !~ /SetHandler.*%\{/ } keys %own;
    attack(\%fixed, grep {
        my ($place) = @{ $attacks{$_} };
        $fixed{$place} || !$own{$place};
    } sort keys %attacks);
};

# Where the administrator alone has a part in requests nothing is kept of them;
# whoever writes such pages has one.
subtest 'pages that set variables, where no .htaccess file is read' => sub {
    my %page = ('i.x' => 'source', 'p.shtml' =>
                '<!--#set var="POOL" value="bob" -->'
                . '<!--#include virtual="i.x" -->');
    for my $options ('+Includes', '+IncludesNoExec', 'All', '${WITH}',
                     'FollowSymLinks') {
        my $httpd = Httpd->start(
            modules => ['include'], override => 'None', files => \%page,
            vars => { RUN => $run, OPTIONS => $options }, config => <<'EOC');
Define WITH Includes
SetEnvIf Request_URI ^ POOL=alice
<Directory @DOCROOT@>
  Options @OPTIONS@
  AddOutputFilter INCLUDES .shtml
  <FilesMatch "\.x$">
    SetHandler "fcgi:@RUN@/%{env:POOL}.sock"
  </FilesMatch>
</Directory>
EOC
        my $before = $app{bob}->connections;
        my $answer = get($httpd, '/p.shtml');
        is($app{bob}->connections, $before, "$options: nobody asks bob")
            or diag $answer->raw;
        is(who(get($httpd, '/i.x')), 'alice', 'who asks alice gets her');
        $httpd->leave;
    }
};

# ---- what administrators rely on ----

# place => what the server's own configuration says of /place_*/, in its
# Directory; or of all
my %setups = (
    files => "<FilesMatch \"\\.x\$\">\nSetHandler fcgi:\@RUN@/alice.sock\n"
        . '</FilesMatch>',
    add => 'AddHandler fcgi:@RUN@/alice.sock .x',
    'add-type' => 'AddType fcgi:@RUN@/alice.sock .x',
    rules => "RewriteEngine On\nRewriteRule \\.x - "
        . '[H=fcgi:@RUN@/alice.sock]',
    expression => "<FilesMatch \"\\.x\$\">\nSetHandler "
        . "\"fcgi:\@RUN@/%{HTTP_HOST}.sock\"\n</FilesMatch>",
    pool => "<FilesMatch \"\\.x\$\">\nSetHandler "
        . "\"fcgi:\@RUN@/%{env:POOL}.sock\"\n</FilesMatch>",
    'section-pool' => "SetEnvIf Request_URI ^ OF_SECTION=alice\n"
        . "<FilesMatch \"\\.x\$\">\nSetHandler "
        . "\"fcgi:\@RUN@/%{env:OF_SECTION}.sock\"\n</FilesMatch>",
    match => "<FilesMatch \"\\.x\$\">\nSetHandler "
        . "\"fcgi:\@RUN@/%{env:MATCH_USER}.sock\"\n</FilesMatch>",
    'uri-pool' => "<FilesMatch \"\\.x\$\">\nSetHandler "
        . "\"fcgi:\@RUN@/%{env:URI_POOL}.sock\"\n</FilesMatch>",
    if => "<If \"%{HTTP_HOST} == 'alice' && %{REQUEST_URI} =~ /x/\">\n"
        . "SetHandler fcgi:\@RUN@/alice.sock\n</If>",
    'server-rule' => '',
    location => '',
    denied => "Require all denied\nOptions None\n"
        . "AddHandler fcgi:\@RUN@/alice.sock .x",
    name => "AddHandler fcgi:Alice .x",
);

# name => [.htaccess, URL, more files].  WHERE is the place.
my %sites = (
    'nothing that matters' => ['AddCharset utf-8 .html', 'i.x'],
    WordPress => ["RewriteEngine On\nRewriteBase /WHERE/\n"
        . "RewriteRule ^index\\.x\$ - [L]\n"
        . "RewriteCond %{REQUEST_FILENAME} !-f\n"
        . "RewriteCond %{REQUEST_FILENAME} !-d\n"
        . "RewriteRule . /WHERE/i.x [L]", 'a/post/?p=1'],
    'a rule with END' => [
        "RewriteEngine On\nRewriteRule ^go\$ i.x [END]", 'go'],
    DirectoryIndex => ['DirectoryIndex i.x', ''],
    'DirectoryIndex of another folder' => ['DirectoryIndex in/deep/i.x', '', {
        'in/.htaccess' => 'AddCharset utf-8 .html', 'in/deep/i.x' => '' }],
    ErrorDocument => ['ErrorDocument 404 /WHERE/i.x', 'none'],
    FallbackResource => ['FallbackResource /WHERE/i.x', 'none'],
    Require => ["Require all granted", 'i.x'],
    SetEnv => ["SetEnv A b\nSetEnvIf Host . C=d\nRewriteEngine On\n"
               . "RewriteRule ^go\$ i.x [E=F:g]", 'go'],
    RequestHeader => ["RequestHeader set X-Some thing\nRewriteEngine On\n"
                      . "RewriteRule ^go\$ i.x", 'go'],
    Action => ["AddHandler own .y\nAction own /WHERE/i.x", 'b.y',
               { 'b.y' => '' }],
    MultiViews => ["Options +MultiViews\nAddType text/html .x", 'i'],
    include => [$SSI, 'p.shtml', {
        'p.shtml' => '<!--#include virtual="i.x" -->' }],
    'include, then a rule' => [$SSI . $RULE, 'p.shtml', {
        'p.shtml' => '<!--#include virtual="go" -->' }],
    'a link' => ['Options +FollowSymLinks', 'link.x'],
    'its own words again' => [
        "<Files i.x>\nSetHandler fcgi:\@RUN@/alice.sock\n</Files>", 'i.x'],
    'a user' => ["AuthType Basic\nAuthName a\nAuthUserFile "
                 . "\@DOCROOT@/htpasswd\nRequire valid-user\n", 'i.x'],
);

# place => sites that httpd itself does not have there, with any module.
my %not = (
    # rules of a .htaccess file stand in place of those of sections; and none
    # is looked at after END
    rules => qr/^(?:WordPress|a rule|SetEnv|RequestHeader|include, then)/,
    'server-rule' => qr/^(?:a rule|MultiViews)/,
    # a type of its own; and a script after which no PATH_INFO may come
    'add-type' => qr/^(?:MultiViews|Action)$/,
    # within a folder httpd does not look at a DirectoryMatch again
    match => qr/^(?:WordPress|a\ rule|SetEnv|RequestHeader|ErrorD|its\ own
                    |include,\ then)/x,
    # variables are made of the URL of the client, and of redirects
    'uri-pool' => qr/^(?:Dir|Fallback|MultiViews|include$)/,
    # an include has those of the page's section
    'section-pool' => qr/^include/,
);

subtest 'what works without FcgiAllow' => sub {
    my (%files, $config);
    for my $place (sort keys %setups) {
        $config .= "<Directory \"\@DOCROOT@/${place}_*\">\n"
            . "AllowOverride All\n$setups{$place}\n</Directory>\n";
        my %all = map { ($_ => [$place, @{ $sites{$_} }]) } keys %sites;
        if ($place eq 'denied') {
            $_->[1] = "Options +FollowSymLinks +Includes +MultiViews\n"
                . "Require all granted\n" . ($_->[1] =~ s/^Require all.*//rm)
                for values %all;
        }
        %files = (%files, %{ files_of(\%all) });
    }
    my $httpd = Httpd->start(
        modules => [@MODULES, 'negotiation'], files => \%files,
        vars => { RUN => $run }, config => $config . <<'EOC');
FcgiBackend alice @RUN@/alice.sock
SetEnvIf Request_URI ^ POOL=alice
SetEnvIf Request_URI \.x URI_POOL=alice
<DirectoryMatch "^@DOCROOT@/(?<user>match)_">
</DirectoryMatch>
<LocationMatch "^/location_[^/]*/.*\.x">
  SetHandler fcgi:@RUN@/alice.sock
</LocationMatch>
<Directory @DOCROOT@>
  AuthBasicProvider file
</Directory>
RewriteEngine On
RewriteRule ^/server-rule_.*\.x - [H=fcgi:@RUN@/alice.sock]
EOC
    for my $place (sort keys %setups) {
        for my $name (sort keys %sites) {
            next if $not{$place} && $name =~ $not{$place};
            my $where = where($place, $name);
            symlink 'i.x', $httpd->docroot . "/$where/link.x";
            my $answer = get($httpd, "/$where/$sites{$name}[1]",
                             "Authorization: $AS_BOB");
            is(who($answer), 'alice', "$place: $name")
                or diag join "\n", $answer->status, $httpd->error_log
                    =~ /(.*(?:FCGI\d|AH).*\n)\z/;
        }
    }
    unlike($httpd->error_log, qr/FCGI13/, 'nothing is refused');
    # what the recipes warn of
    is(get($httpd, '/' . where('match', 'WordPress') . '/a/post')->status, 500,
       'DirectoryMatch has no names after a rewrite rule within its folder');
    $httpd->leave;
};

subtest 'in every version of HTTP' => sub {
    my %table = (attack => ['host', $TO_BOB . $RULE, 'go'],
                 site => ['host', @{ $sites{WordPress} }]);
    my $httpd = Httpd->start(
        modules => \@MODULES, vars => { RUN => $run }, http2 => 1,
        files => files_of(\%table), config => sections(\%own) . $SERVER
            . "FcgiBackend bob \@RUN@/bob.sock\n");
    my %url = map { ($_ => '/' . where('host', $_) . '/' . $table{$_}[2]) }
        keys %table;
    my $before = $app{bob}->connections;
    for my $name (sort keys %url) {
        my $expected = $name eq 'site' ? 200 : 500;
        for my $version (qw(--http1.0 --http1.1 --http2-prior-knowledge)) {
            my $answer = Client::curl($version, '-H', 'Host: alice',
                'http://127.0.0.1:' . $httpd->port . $url{$name});
            is($answer->{status}, $expected, "$name $version")
                or diag explain $answer;
            like($answer->{body}, qr/^alice/, 'alice answers')
                if $name eq 'site';
        }
    }
    # one after the other on one connection: what is kept of a request is
    # not the next one's
    my $client = Client->connect($httpd->port);
    for my $name (qw(site site attack)) { # which ends it
        $client->send("GET $url{$name} HTTP/1.1\r\nHost: alice\r\n\r\n");
        is($client->read_response->status, $name eq 'site' ? 200 : 500,
           "$name on one connection");
    }
    is($app{bob}->connections, $before, 'nobody connects to bob');
    $httpd->leave;
};

# ---- FcgiAllow ----

my $home = Private::temp_dir('home');
mkdir "$home/$_", 0755 or die for qw(alice bob);
my %at_home = map {
    my $name = $_;
    $name => FcgiApp->start(sub {
        my ($c) = @_;
        $c->read_request(5) or return;
        $c->reply("Content-Type: text/plain\r\n\r\n$name");
    }, transport => 'unix', socket => "$home/$name/php.sock");
} qw(alice bob);

subtest 'FcgiAllow looks where links lead' => sub {
    symlink "$home/bob/php.sock", "$home/alice/to-bob.sock" or die;
    symlink "$home/alice/to-bob.sock", "$home/alice/twice.sock" or die;
    symlink "$home/bob", "$home/alice/folder" or die;
    symlink 'php.sock', "$home/alice/to-own.sock" or die;
    symlink "$run/bob.sock", "$home/alice/known.sock" or die;
    symlink "$home/alice/none.sock", "$home/alice/dangling.sock" or die;
    symlink "$home/alice", "$home/link" or die;
    # what a .htaccess file names => who answers, or how it is refused
    my @table = (
        "$home/alice/php.sock" => 'alice',
        "$home/alice/to-own.sock" => 'alice',
        "$home/link/php.sock" => 'alice',
        "$home/alice/to-bob.sock" => "$home/bob/php.sock",
        "$home/alice/twice.sock" => "$home/bob/php.sock",
        "$home/alice/folder/php.sock" => "$home/bob/php.sock",
        "$home/alice/known.sock" => 'bob',
        "$home/bob/php.sock" => "$home/bob/php.sock",
        "$home/alice/../bob/php.sock" => "$home/bob/php.sock",
    );
    my $httpd = Httpd->start(
        files => { 'a/i.x' => 'source' }, vars => { RUN => $run },
        config => <<"EOC");
FcgiConnectTimeout 100ms
FcgiBackend bob \@RUN@/bob.sock
<Directory \@DOCROOT@/a>
  FcgiAllow $home/alice/*.sock
</Directory>
EOC
    my @before = map { $_->connections } $app{bob}, $at_home{bob};
    while (my ($path, $who) = splice @table, 0, 2) {
        $httpd->write('a/.htaccess', "SetHandler fcgi:$path");
        my $seen = length $httpd->error_log;
        my $answer = get($httpd, '/a/i.x');
        my $log = substr $httpd->error_log, $seen;
        if ($who eq 'alice') {
            is(who($answer), 'alice', $path);
        }
        else {
            is($answer->status, 500, $path);
            like($log, qr/FCGI13: .*"FcgiAllow \Q$who\E" would admit it/,
                 'what to write');
            my $real = $who eq 'bob' ? "$run/bob.sock" : $who;
            like($log, qr/, which is \Q$real\E with all links followed;/,
                 'where it leads') if $path =~ /to-bob|twice|folder|known/;
        }
    }
    is(join(' ', map { $_->connections } $app{bob}, $at_home{bob}), "@before",
       'nobody connects to bob');
    for my $path ("$home/alice/none.sock", "$home/alice/dangling.sock") {
        $httpd->write('a/.htaccess', "SetHandler fcgi:$path");
        is(get($httpd, '/a/i.x')->status, 503, "$path: nobody is there");
    }
    $httpd->leave;
};

# A process that turns a link to and fro, as fast as it can.
sub turning {
    my ($link, @targets) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    symlink $targets[$_], "$link.$_" or POSIX::_exit(1) for 0 .. $#targets;
    while (getppid() != 1) {
        for my $i (0 .. $#targets) {
            link "$link.$i", "$link.new";
            rename "$link.new", $link;
        }
    }
    POSIX::_exit(0);
}

subtest 'a link that turns all the time' => sub {
    my $httpd = Httpd->start(
        files => { 'a/i.x' => 'source', 'a/.htaccess' =>
            "SetHandler fcgi:$home/alice/turn.sock" },
        config => "FcgiAllow $home/alice/*.sock\nFcgiConnectTimeout 2s\n");
    my $before = $at_home{bob}->connections;
    my $pid = turning("$home/alice/turn.sock", "$home/alice/php.sock",
                      "$home/bob/php.sock");
    Private::wait_until(10, sub { -l "$home/alice/turn.sock" })
        or die 'it does not turn';
    my %who;
    $who{ who(get($httpd, '/a/i.x')) }++ for 1 .. 400;
    kill 'KILL', $pid;
    waitpid $pid, 0;
    ok($who{alice}, 'alice answers sometimes') or diag explain \%who;
    ok($who{'<!DOCTYPE'}, 'and the link was seen to lead to bob');
    is($at_home{bob}->connections, $before, 'who is never connected to');
    $httpd->leave;
};

subtest 'FcgiAllow with names' => sub {
    # places, what FcgiAllow says, and whom it admits of bob, alice and a
    # backend without a name
    my @table = (
        'None' => '', 'Configured' => 'bob alice unnamed',
        'bob' => 'bob', 'BOB' => 'bob', 'bob Alice' => 'bob alice',
        'Configured None' => undef, '@RUN@/bob.sock' => 'bob',
        '@RUN@/*.sock' => 'bob alice', # the third is elsewhere
        '@RUN@/match.sock' => '', # alice's, by a link
    );
    my (%place, $config, %files);
    for (my $i = 0; $i < @table; $i += 2) {
        next if !defined $table[$i + 1];
        $config .= "<Directory \@DOCROOT@/p$i>\nFcgiAllow $table[$i]\n"
            . "</Directory>\n";
        for my $name (qw(bob alice unnamed)) {
            $files{"p$i/$name/i.x"} = 'source';
            $files{"p$i/$name/.htaccess"} = 'SetHandler fcgi:'
                . ($name eq 'unnamed' ? "$home/bob/php.sock" : $name);
        }
    }
    my $httpd = Httpd->start(
        files => \%files, vars => { RUN => $run },
        config => $config . <<"EOC");
FcgiBackend bob \@RUN@/bob.sock
FcgiBackend alice \@RUN@/alice.sock
FcgiBackend $home/bob/php.sock
EOC
    for (my $i = 0; $i < @table; $i += 2) {
        next if !defined $table[$i + 1];
        my @admitted = grep {
            get($httpd, "/p$i/$_/i.x")->status == 200 } qw(bob alice unnamed);
        is("@admitted", $table[$i + 1], $table[$i]);
    }
    $httpd->leave;
    for my $words ('nobody', 'Configured nobody', '/x nobody', 'b*b',
                   'localhost') {
        my ($status, $output) = Httpd->configtest(
            "FcgiBackend bob 127.0.0.1:1\nFcgiAllow $words");
        isnt($status, 0, "FcgiAllow $words");
        like($output, qr/FCGI20:\ Syntax\ error\ on\ line\ \d+\ of\ \S+:
             \ FcgiAllow\ .*\ is\ neither\ the\ pattern\ of\ an\ absolute
             \ path\ nor\ of
             \ host:port,\ and\ there\ is\ no\ FcgiBackend\ of\ that\ name/x,
             'file and line, and why');
    }
};

# ---- who somebody is ----

subtest 'a user whom mod_authnz_fcgi brings' => sub {
    my $says_yes = FcgiApp->start(sub {
        my ($c) = @_;
        $c->read_params(5) or return;
        $c->reply("Status: 200\r\n\r\n");
    }, transport => 'tcp');
    Private::spew("$run/users", $HTPASSWD =~ s/bob/alice/r, 0644);
    my $httpd = Httpd->start(
        modules => [@MODULES, 'authnz_fcgi'],
        vars => { RUN => $run, YES => $says_yes->address },
        files => {
            'plain/i.x' => 'text', 'hers/i.x' => 'text',
            'hers/.htaccess' => 'AuthnzFcgiCheckAuthnProvider Yes '
                . "RequireBasicAuth Off UserExpr \"%{tolower:BOB}\"\n",
        }, config => <<'EOC');
AuthnzFcgiDefineProvider authn Yes fcgi://@YES@/
<Directory @DOCROOT@>
  AllowOverride FileInfo
  AuthType Basic
  AuthName x
  AuthBasicProvider file
  AuthUserFile @RUN@/users
  Require valid-user
  <FilesMatch "\.x$">
    SetHandler "fcgi:@RUN@/%{REMOTE_USER}.sock"
  </FilesMatch>
</Directory>
EOC
    my $as_alice = 'Authorization: Basic '
        . encode_base64('alice:password', '');
    is(who(get($httpd, '/plain/i.x', $as_alice)), 'alice',
       'whom the server knows');
    my $before = $app{bob}->connections;
    is(get($httpd, '/hers/i.x', @$_)->status, 500, 'whom a file brings')
        for [], [$as_alice];
    is($app{bob}->connections, $before, 'nobody connects to bob');
    $httpd->leave;
};

subtest "a client's address by mod_remoteip" => sub {
    for my $more ('', 'RemoteIPInternalProxy 127.0.0.0/8') {
        my $httpd = Httpd->start(
            modules => [@MODULES, 'remoteip'], vars => { RUN => $run },
            files => { 'a/i.x' => 'text', 'a/.htaccess' => <<'EOH' },
RequestHeader set X-Real-IP 203.0.113.9
RewriteEngine On
RewriteRule ^go$ i.x [L]
ErrorDocument 404 /a/i.x
EOH
            config => "RemoteIPHeader X-Real-IP\n$more\n" . <<'EOC');
<FilesMatch "\.x$">
  SetHandler "fcgi:@RUN@/alice.sock"
  <If "%{REMOTE_ADDR} == '203.0.113.9'">
    SetHandler "fcgi:@RUN@/bob.sock"
  </If>
</FilesMatch>
EOC
        my $before = $app{bob}->connections;
        for my $url (qw(/a/i.x /a/go /a/none)) {
            isnt(who(get($httpd, $url, 'X-Real-IP: 203.0.113.5')), 'bob',
                 "$more: $url");
            isnt(who(get($httpd, $url)), 'bob', "$more: $url, by itself");
        }
        is($app{bob}->connections, $before, 'nobody connects to bob');
        is(who(get($httpd, '/a/i.x', 'X-Real-IP: 203.0.113.9')), 'bob',
           'but for whom it is');
        $httpd->leave;
    }
};

# A certificate that nobody signed, and says bob.
subtest 'a TLS certificate that a .htaccess file lets pass' => sub {
    my $made = Private::temp_dir('ca');
    for my $name (qw(ca bob)) {
        my ($status, $output) = Private::run(
            qw(openssl req -x509 -newkey ec -pkeyopt
               ec_paramgen_curve:prime256v1 -nodes -days 2 -subj), "/CN=$name",
            '-keyout', "$made/$name.key", '-out', "$made/$name.crt");
        die $output if $status;
    }
    my $httpd = Httpd->start(
        tls => 1, modules => \@MODULES, vars => { RUN => $run, CA => $made },
        files => {
            'plain/i.x' => 'text', 'hers/i.x' => 'text',
            'hers/.htaccess' => "SSLVerifyClient optional_no_ca\n",
        }, tls_config => <<'EOT');
SSLProtocol -all +TLSv1.2
SSLCACertificateFile @CA@/ca.crt
SSLVerifyClient none
<FilesMatch "\.x$">
  SetHandler "fcgi:@RUN@/%{SSL:SSL_CLIENT_S_DN_CN}.sock"
</FilesMatch>
EOT
    my $before = $app{bob}->connections;
    for my $urls (['/hers/i.x'], ['/hers/i.x', '/plain/i.x']) {
        my ($status, $output) = Private::run(
            qw(curl -sk --tls-max 1.2 --cert), "$made/bob.crt", '--key',
            "$made/bob.key", '-w', '[%{http_code}]',
            map { 'https://localhost:' . $httpd->tls_port . $_ } @$urls);
        like($output, qr/\[500\]/, "@$urls: refused");
        unlike($output, qr/\[200\]/, 'also what comes on the connection');
    }
    is($app{bob}->connections, $before, 'nobody connects to bob');
    $httpd->leave;
};

# ---- what is named elsewhere ----

subtest 'a pattern, and a path that is named elsewhere' => sub {
    my $home = Private::temp_dir('home');
    mkdir "$home/alice", 0755;
    symlink "$run/alice.sock", "$home/alice/php.sock" or die;
    my $httpd = Httpd->start(
        modules => \@MODULES, vars => { HOME => $home, RUN => $run },
        files => {
            'a/i.x' => 'text',
            'a/.htaccess' => "SetHandler fcgi:$home/alice/php.sock\n",
        }, config => <<'EOC');
FcgiAllow @HOME@/alice/*.sock
FcgiBackend alice @HOME@/alice/php.sock max=3
<Location /elsewhere>
  SetHandler fcgi:@HOME@/alice/php.sock
</Location>
EOC
    is(get($httpd, '/a/i.x')->status, 500, 'a link out of the pattern');
    unlink "$home/alice/php.sock";
    my $own = FcgiApp->start(sub {
        $_[0]->read_request(5) or return;
        $_[0]->reply("Content-Type: text/plain\r\n\r\nhers");
    }, transport => 'unix', socket => "$home/alice/php.sock");
    is(get($httpd, '/a/i.x')->body, 'hers', 'a socket that it matches');
    $own->stop;
    symlink "$run/bob.sock", "$home/alice/php.sock" or die;
    my $before = $app{bob}->connections;
    is(get($httpd, '/a/i.x')->status, 500, 'a link to bob');
    is($app{bob}->connections, $before, 'nobody connects to bob');
    $httpd->leave;
};

subtest 'what opens something stands under no condition' => sub {
    for my $line ('FcgiAllow /x/*', 'FcgiSendfile /srv/files') {
        for my $section ("<If \"true\">\n$line\n</If>",
                         "<If \"true\">\n</If>\n<Else>\n$line\n</Else>",
                         "<If \"true\">\n</If>\n<ElseIf \"true\">\n$line\n"
                         . '</ElseIf>',
                         "<If \"true\">\n<Files x>\n$line\n</Files>\n</If>") {
            my ($status, $output) = Httpd->configtest(
                "<Directory /srv>\n$section\n</Directory>");
            isnt($status, 0, $section =~ s/\n/ /gr);
            like($output, qr/ cannot stand in <(?:If|Else|ElseIf)>: a \.htac/,
                 'and why');
        }
        is((Httpd->configtest("<Directory /srv>\n$line\n</Directory>"))[0], 0,
           "$line, without one");
    }
};

Httpd::ok_left();
done_testing;
